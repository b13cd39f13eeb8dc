"""Masks whose values are no labels, because an edge was smoothed or the file compressed: found, and cut in the middle.

Arrays in, arrays out.
"""

import cv2
import numpy as np

from pipeline.data.mask_files import NOISE

_NEAR = np.ones((5, 5), np.uint8)
"""What is within two pixels."""


def soft_threshold(values: np.ndarray, *, lossy: bool) -> float | None:
    """Find where to cut a mask (whole numbers >= 0, any integer type, (h, w)) whose values are no labels; None if they
    are.

    They are where there are two at most. They are not in a file of lossy compression; where those between the smallest
    and the largest occur only within two pixels of both; and where more values occur only between two flat ones than
    there are flat ones (smoothed edges of several labels). The cut is halfway between the lowest value and the next
    flat one, which of a mask of one object is the middle.
    """
    lowest, highest = int(values.min()), int(values.max())
    between = (values > lowest) & (values < highest)
    if not between.any():
        return None
    middle = (lowest + highest) / 2
    if lossy:
        if highest - lowest < NOISE:  # one value, black unless it is too bright for that
            return NOISE - 0.5
        return _middle_of_flat(values, lowest) or middle
    near_both = _near(values == lowest) & _near(values == highest)
    if near_both[between].all():
        return middle
    return _middle_of_smoothed(values)


def _near(mask: np.ndarray) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), _NEAR) > 0


def _middle_of_flat(values: np.ndarray, lowest: int) -> float | None:
    """Halfway between the two lowest values around which a compressed mask is flat; None if it is so around one."""
    gray = values.astype(np.float32)
    flat = cv2.dilate(gray, _NEAR) - cv2.erode(gray, _NEAR) < NOISE
    found = np.unique(values[flat]).astype(float)
    levels = np.split(found, np.flatnonzero(np.diff(found) > NOISE / 2) + 1)
    if len(levels) < 2 or levels[0][0] > lowest + NOISE:
        return None
    return float(levels[0][0] + levels[0][-1] + levels[1][0] + levels[1][-1]) / 4


def _middle_of_smoothed(values: np.ndarray) -> float | None:
    """Halfway between the two lowest flat values (of 3 x 3 pixels) if those that occur only at edges outnumber them."""
    kinds, ranks = np.unique(values, return_inverse=True) if values.max() >= 1 << 16 else (None, values)
    ranks = ranks.reshape(values.shape)
    order = ranks.astype(np.float32)
    num = int(ranks.max()) + 1
    is_flat = _members(ranks[cv2.erode(order, _NEAR[:3, :3]) == cv2.dilate(order, _NEAR[:3, :3])], num)
    in_flat = is_flat[ranks]
    lower = cv2.erode(np.where(in_flat, order, np.inf).astype(np.float32), _NEAR) < order
    higher = cv2.dilate(np.where(in_flat, order, -np.inf).astype(np.float32), _NEAR) > order
    is_edge = _members(ranks, num) & ~is_flat & ~_members(ranks[~(lower & higher)], num)
    levels = np.flatnonzero(is_flat)
    if len(levels) < 2 or is_edge.sum() <= len(levels):
        return None
    first, second = levels[:2] if kinds is None else kinds[levels[:2]]
    return (float(first) + float(second)) / 2


def _members(values: np.ndarray, num: int) -> np.ndarray:
    found = np.zeros(num, bool)
    found[values.ravel()] = True
    return found
