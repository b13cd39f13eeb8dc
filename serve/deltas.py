"""Masks as bits, whole or as what changed since the last one: what a page needs to paint, and no more."""

import numpy as np

from serve.made import bbox_xywh


def patch_between(before: np.ndarray | None, mask: np.ndarray) -> tuple[list[int], bytes]:
    """The box (x, y, width, height) of the pixels that changed, and the bits of `mask` in it, row after row.

    Masks are bool (h, w); without one before, an empty one counts.
    """
    box = bbox_xywh(mask if before is None else mask ^ before)
    x, y, width, height = box
    return box, np.packbits(mask[y : y + height, x : x + width]).tobytes()
