"""Masks as bits, whole or as what changed since the last one: what a page needs to paint, and no more."""

import threading

import numpy as np
from cachetools import LRUCache

from serve.made import bbox_xywh

MAX_BYTES = 64 << 20


def patch_between(before: np.ndarray | None, mask: np.ndarray) -> tuple[list[int], bytes]:
    """The box (x, y, width, height) of the pixels that changed, and the bits of `mask` in it, row after row.

    Masks are bool (h, w); without one before, an empty one counts.
    """
    box = bbox_xywh(mask if before is None else mask ^ before)
    x, y, width, height = box
    return box, np.packbits(mask[y : y + height, x : x + width]).tobytes()


class LastMasks:
    """The last mask that was sent of each session, with its sequence number; bounded, may forget. Thread-safe."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._kept: LRUCache[str, tuple[int, np.ndarray]] = LRUCache(max_bytes, getsizeof=lambda kept: kept[1].nbytes)
        self._lock = threading.Lock()

    def at(self, session_id: str, sequence: int, hw: tuple[int, int]) -> np.ndarray | None:
        """The mask of a session at this sequence, bool (h, w), if it was the last one sent."""
        with self._lock:
            found = self._kept.get(session_id)
        if found is None or found[0] != sequence:
            return None
        return np.unpackbits(found[1], count=hw[0] * hw[1]).reshape(hw).view(bool)

    def keep(self, session_id: str, sequence: int, mask: np.ndarray) -> None:
        """Remember the mask that is sent now."""
        packed = np.packbits(mask)
        if packed.nbytes <= self._kept.maxsize:
            with self._lock:
                self._kept[session_id] = (sequence, packed)
