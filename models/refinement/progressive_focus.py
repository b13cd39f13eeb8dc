"""Choose the radius of the next close-up from the last one's change (Lin et al., FocusCut, Alg. 3)."""

import cv2
import numpy as np

REFERENCE_SIDE = 384
"""Side of close-ups, in pixels, to which `erosion` refers."""


def next_ratio(before: np.ndarray, after: np.ndarray, *, growth: float, erosion: float) -> float | None:
    """Return the radius of the next close-up as a fraction of this one's, or None to stop if too little changed.

    `before` and `after` are the masks (bool) at the close-up's size. Only changed pixels at least `erosion` away from
    unchanged ones count. The next radius is `growth` times the distance of the farthest of them from the centre; it may
    exceed this one.
    """
    height, width = before.shape
    changed = (before != after).astype(np.uint8)
    limit = erosion * min(height, width) / REFERENCE_SIDE
    # Rounded to exact squared integers, since the transform is off by about an ulp.
    squared = np.rint(cv2.distanceTransform(changed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).astype(np.float64) ** 2)
    rows, columns = np.nonzero((changed > 0) & (squared >= limit**2))
    if not len(rows):
        return None
    reach = max(_reach(rows, height // 2), _reach(columns, width // 2))
    return growth * reach


def _reach(places: np.ndarray, centre: int) -> float:
    return float(np.abs(places - centre).max() / centre)
