"""What no click changes: the pixels of a view, and what a network makes of them before it is shown a click."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from models.geometry import Box
from models.steps import Example


@dataclass(eq=False)
class Frame:
    """What is kept of a view: its pixels, and what `Start` was answered by for an example (None: for no example)."""

    image: Tensor | None = None
    started: Any = None
    """Whoever answered alone can read it."""
    example: Example | None = None
    mirror: "Frame | None" = None

    def mirrored(self) -> "Frame":
        """What is kept of its mirror image."""
        if self.mirror is None:
            self.mirror = Frame()
        return self.mirror

    def tensors(self) -> Iterator[Tensor]:
        """All that is kept in this process."""
        parts = self.started if isinstance(self.started, tuple) else ()
        for part in (self.image, *parts, None if self.example is None else self.example.mask):
            if isinstance(part, Tensor):
                yield part
        if self.mirror is not None:
            yield from self.mirror.tensors()


class Frames:
    """The newest views of one image, of one network: a cache, which changes no answer and may vanish at any moment.

    States of a session share it, so that an undone click, or the next object in the image, finds what the first found.
    """

    def __init__(self, most: int = 1) -> None:
        """Keep at most this many views."""
        self._most = most
        self._frames: OrderedDict[tuple[Box, tuple[int, int], str], Frame] = OrderedDict()

    def at(self, box: Box, hw: tuple[int, int], how: str = "") -> Frame:
        """What is kept of a box at this size; `how` tells ways of making its pixels apart. An empty one if nothing."""
        frame = self._frames.setdefault((box, hw, how), Frame())
        self._frames.move_to_end((box, hw, how))
        while len(self._frames) > self._most:
            self._frames.popitem(last=False)
        return frame

    @property
    def memory_bytes(self) -> int:
        """Bytes of all that is kept in this process."""
        return sum(tensor.nbytes for frame in self._frames.values() for tensor in frame.tensors())
