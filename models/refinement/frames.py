"""Cache of click-independent data: the pixels of a view, and the features that a network computes before any click."""

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
    """Cached data of a view: its pixels, and the answer to `Start` for an example (None: for no example)."""

    image: Tensor | None = None
    started: Any = None
    """Opaque except to the driver that answered."""
    example: Exemplar | None = None
    mirror: "Frame | None" = None

    def pixels(self, make: Callable[[], Tensor], worth_keeping: bool) -> Tensor:
        """Return the view's pixels, cached or made now; views as large as the image are not `worth_keeping`."""
        image = make() if self.image is None else self.image
        if worth_keeping:
            self.image = image
        return image

    def shows(self, example: Exemplar | None) -> bool:
        """Whether the cached answer is for this example."""
        return example is self.example or (example is not None and example.shows_the_same(self.example))

    def keep(self, started: Any, example: Exemplar | None) -> None:
        """Cache the answer to `Start` for an example."""
        self.started, self.example = started, example

    def mirrored(self) -> "Frame":
        """Return the frame of the mirror image."""
        if self.mirror is None:
            self.mirror = Frame()
        return self.mirror

    def tensors(self) -> Iterator[Tensor]:
        """Yield all cached tensors in this process."""
        parts = self.started if isinstance(self.started, tuple) else ()
        for part in (self.image, *parts, None if self.example is None else self.example.mask):
            if isinstance(part, Tensor):
                yield part
        if self.mirror is not None:
            yield from self.mirror.tensors()


Pool = WeakValueDictionary[tuple[str, Box, tuple[int, int], str], Frame]
"""Frames of all images of one network that at least one Frames object keeps."""


class Frames:
    """Cache of the newest views of one image for one network; it may vanish at any time without changing results.

    The states of a session share it, so that undo and the next object in the image reuse its frames. Frames objects of
    one image and one pool also share frames; a frame is kept until the last of them drops it.
    """

    def __init__(self, most: int = 1, image: str = "", pool: Pool | None = None) -> None:
        """Keep at most `most` views. `image` identifies the image's content in `pool` (None: share no frames)."""
        self.image, self._most = image, most
        self._pool = Pool() if pool is None else pool
        self._frames: OrderedDict[tuple[Box, tuple[int, int], str], Frame] = OrderedDict()

    def at(self, box: Box, hw: tuple[int, int], how: str = "") -> Frame:
        """Return the frame of a box at a size, empty if new; `how` distinguishes ways of computing its pixels."""
        key = (box, hw, how)
        frame = self._frames[key] = self._frames.get(key) or self._pool.setdefault((self.image, *key), Frame())
        self._frames.move_to_end(key)
        while len(self._frames) > self._most:
            self._frames.popitem(last=False)
        return frame

    @property
    def memory(self) -> dict[int, int]:
        """Bytes of each frame in this process, by its id."""
        return {id(frame): sum(tensor.nbytes for tensor in frame.tensors()) for frame in self._frames.values()}
