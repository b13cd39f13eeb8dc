"""What no click changes: the pixels of a view, and what a network makes of them before it is shown a click."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from torch import Tensor

from models.exemplar import Exemplar
from models.geometry import Box


@dataclass(eq=False)
class Frame:
    """What is kept of a view: its pixels, and what `Start` was answered by for an example (None: for no example)."""

    image: Tensor | None = None
    started: Any = None
    """Whoever answered alone can read it."""
    example: Exemplar | None = None
    mirror: "Frame | None" = None

    def pixels(self, make: Callable[[], Tensor], worth_keeping: bool) -> Tensor:
        """The view's pixels: kept ones, or made now; what is no smaller than the image is not worth its memory."""
        image = make() if self.image is None else self.image
        if worth_keeping:
            self.image = image
        return image

    def shows(self, example: Exemplar | None) -> bool:
        """Whether what is kept was made for this example."""
        return example is self.example or (example is not None and example.shows_the_same(self.example))

    def keep(self, started: Any, example: Exemplar | None) -> None:
        """Keep what `Start` was answered by for an example."""
        self.started, self.example = started, example

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


Pool = WeakValueDictionary[tuple[str, Box, tuple[int, int], str], Frame]
"""Frames of all images of one network that some Frames keeps, by image."""


class Frames:
    """The newest views of one image, of one network: a cache, which changes no answer and may vanish at any moment.

    States of a session share it, so that an undone click, or the next object in the image, finds what the first found.
    Those of one image and one pool have their frames in common; each frame is kept until the last of them drops it.
    """

    def __init__(self, most: int = 1, image: str = "", pool: Pool | None = None) -> None:
        """Keep at most this many views. `image` names its content, within the `pool` (None: shared with no other)."""
        self.image, self._most = image, most
        self._pool = Pool() if pool is None else pool
        self._frames: OrderedDict[tuple[Box, tuple[int, int], str], Frame] = OrderedDict()

    def at(self, box: Box, hw: tuple[int, int], how: str = "") -> Frame:
        """What is kept of a box at this size; `how` tells ways of making its pixels apart. An empty one if nothing."""
        key = (box, hw, how)
        frame = self._frames[key] = self._frames.get(key) or self._pool.setdefault((self.image, *key), Frame())
        self._frames.move_to_end(key)
        while len(self._frames) > self._most:
            self._frames.popitem(last=False)
        return frame

    @property
    def memory(self) -> dict[int, int]:
        """Bytes of each frame that is kept in this process, by its id."""
        return {id(frame): sum(tensor.nbytes for tensor in frame.tensors()) for frame in self._frames.values()}
