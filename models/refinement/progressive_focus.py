"""How closely to look next: at what the last close-up changed (Lin et al., FocusCut, Alg. 3)."""

import cv2
import numpy as np

REFERENCE_SIDE = 384
"""Side of the close-ups at which `erosion` is meant."""


def next_ratio(before: np.ndarray, after: np.ndarray, *, growth: float, erosion: float) -> float | None:
    """Radius of the next close-up as a part of this one's; None: nothing of weight changed, stop.

    `before` and `after` are the masks (bool) at the close-up's own size. Only changed pixels at least `erosion` away
    from unchanged ones count; the farthest of them from the centre, times `growth`, is the next radius, which may
    exceed this one.
    """
    height, width = before.shape
    changed = (before != after).astype(np.uint8)
    limit = erosion * min(height, width) / REFERENCE_SIDE
    # Exact squared integers: the transform is off by about an ulp.
    squared = np.rint(cv2.distanceTransform(changed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float64) ** 2)
    rows, columns = np.nonzero((changed > 0) & (squared >= limit**2))
    if not len(rows):
        return None
    reach = max(_reach(rows, height // 2), _reach(columns, width // 2))
    return growth * reach


def _reach(places: np.ndarray, centre: int) -> float:
    return float(np.abs(places - centre).max() / centre)
