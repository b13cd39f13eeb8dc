"""Sessions for protocols without sessions, identified by the image's content and the first click.

Such a protocol sends the image and all clicks with every call. The calls for one object share their first click, so a
hash of the image and the first click is the id of the session, and a call that adds or removes clicks continues from
the previous one. The id is the same after a restart and in other processes. Two users who click the same pixel of the
same image share a session, but each call returns the mask of its clicks.
"""

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache

from models.interaction import Click, in_known_order
from serve.core.options import Options
from serve.core.problems import Problem
from serve.core.values import Basis, check_wire_click
from serve.engine.asking import MASK, Work
from serve.engine.engine import NUM_OPENING
from serve.engine.fleet import Fleet
from serve.engine.locks import KeyedLocks
from serve.faces.originals import as_png, original_hw
from serve.wire.images import image_hw

NUM_REMEMBERED = 4096


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """An image file, and its size as displayed."""

    data: bytes
    sha256: str
    hw: tuple[int, int]

    def click(self, x: float, y: float, positive: bool) -> Click:
        """Return a click on the pixel under the point (x, y), measured from the image's top left corner.

        Raises bad_click if the point is outside the image; the right and lower edges count as inside.
        """
        height, width = self.hw
        if not (0 <= x <= width and 0 <= y <= height):
            raise Problem("bad_click", f"the click ({x:g}, {y:g}) is outside the image of {width} x {height} pixels")
        return Click(y=min(int(y), height - 1), x=min(int(x), width - 1), positive=positive)


class ByContent:
    """Masks of pictures and clicks. Methods raise Problem and may take as long as a forward: call them in a thread."""

    def __init__(self, fleet: Fleet, options: Options, face: str, *, originals: bool = False) -> None:
        """Use the default model of `fleet`, with sessions that other protocols do not share (`face`: its name).

        `originals`: also accept the formats of originals.py.
        """
        self._fleet, self._options, self._face, self._originals = fleet, options, face, originals
        self._guard = threading.Lock()
        self._looking = threading.BoundedSemaphore(NUM_OPENING)  # finding the size of some files needs decoding
        self._sizes: LRUCache[str, tuple[int, int]] = LRUCache(NUM_REMEMBERED)
        self._clicks: LRUCache[str, tuple[Click, ...]] = LRUCache(NUM_REMEMBERED)  # of each session's last call
        self._locks = KeyedLocks()

    @property
    def model_version(self) -> str:
        """Identifies the weights of the default model."""
        return self._fleet.info().model_version

    def picture(self, data: bytes) -> Picture:
        """Check the header of an image file; raises like decoding does, as far as the header shows."""
        sha256 = hashlib.sha256(data).hexdigest()
        with self._guard:
            hw = self._sizes.get(sha256)
        if hw is None:
            with self._looking:
                hw = (original_hw if self._originals else image_hw)(data, self._options.max_pixels)
            with self._guard:
                self._sizes[sha256] = hw
        return Picture(data=data, sha256=sha256, hw=hw)

    def mask(self, picture: Picture, clicks: Sequence[Click]) -> np.ndarray:
        """Return the mask, bool (h, w), of at least one click, in the order in which the clicks were made."""
        clicks = tuple(clicks)
        if not clicks:
            raise Problem("bad_click", "there is no click: the first one starts the mask")
        if len(clicks) > self._options.max_clicks:
            raise Problem("bad_click", f"{len(clicks)} clicks: at most {self._options.max_clicks} are allowed")
        for click in clicks:
            check_wire_click(click, picture.hw)
        session_id = self._session_of(picture, clicks[0])
        with self._locks.alone(session_id):
            basis = Basis(bit_depth=self._options.bit_depth)
            work = Work(session_id=session_id, load=lambda: self._file(picture), basis=basis, clicks=clicks)
            mask = self._fleet.ask(MASK, work).mask
        with self._guard:
            self._clicks[session_id] = clicks
        return mask

    def ordered(self, picture: Picture, positive: Sequence[Click], negative: Sequence[Click]) -> tuple[Click, ...]:
        """Order clicks that a protocol sends in two lists: first those of earlier calls in their order, then new ones.

        Masks depend on the order. If no earlier call is remembered, positive clicks come first.
        """
        if not positive:
            return tuple(negative)
        with self._guard:
            known = self._clicks.get(self._session_of(picture, positive[0]), ())
        return in_known_order(known, positive, negative)

    def _file(self, picture: Picture) -> bytes:
        """Return the image file in a format that the model's process decodes, which needs it for a new session."""
        if not self._originals:
            return picture.data
        with self._looking:
            return as_png(picture.data, self._options.max_pixels, self._options.bit_depth)

    def _session_of(self, picture: Picture, first: Click) -> str:
        # Longer than the ids of other sessions, so it cannot be one of them.
        key = f"{picture.sha256} {first.y!r} {first.x!r} {first.positive!r}"
        return f"{self._face}-{hashlib.sha256(key.encode()).hexdigest()}"
