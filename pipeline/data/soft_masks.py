"""Masks whose values are no labels, because edges were smoothed or the file was compressed: where to cut them.

Arrays in, arrays out.
"""

import cv2
import numpy as np

from pipeline.data.mask_files import NOISE

_NEAR = np.ones((5, 5), np.uint8)
"""What is within two pixels."""
_NEXT = np.ones((3, 3), np.uint8)


def soft_threshold(values: np.ndarray, *, lossy: bool) -> float | None:
    """Find where to cut a mask whose values are no labels; None if they are. `values`: whole numbers >= 0, (h, w).

    Up to two values are labels. More are none in a file of lossy compression, if those between the smallest and the
    largest occur only within two pixels of both, or if most values occur on slopes alone. The cut is halfway between
    the lowest value and the next one around which the mask is flat: the middle, where it shows one object.
    """
    lowest, highest = int(values.min()), int(values.max())
    between = (values > lowest) & (values < highest)
    if not between.any():
        return None
    if lossy and highest - lowest < NOISE:  # one value, and black if it is as dark as that
        return NOISE - 0.5
    if not lossy and not (_near(values == lowest) & _near(values == highest))[between].all() and not _is_slopes(values):
        return None
    # Of labels that were smoothed, neighbours may be close; in eight bits both are 16.
    cut = _above_lowest_level(values.astype(np.float32), NOISE if lossy else (highest - lowest) / NOISE)
    return (lowest + highest) / 2 if cut is None else cut


def _near(mask: np.ndarray) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), _NEAR) > 0


def _above_lowest_level(values: np.ndarray, noise: float) -> float | None:
    """Halfway between the two lowest levels at which a mask is flat, but for noise; None if it is so at one."""
    flat = values[cv2.dilate(values, _NEAR) - cv2.erode(values, _NEAR) < noise]
    found = np.unique(flat)
    levels = np.split(found, np.flatnonzero(np.diff(found) > noise / 2) + 1)
    if len(levels) < 2 or levels[0][0] > values.min() + noise:
        return None
    return float(levels[0][0] + levels[0][-1] + levels[1][0] + levels[1][-1]) / 4


def _is_slopes(values: np.ndarray) -> bool:
    """Whether most values occur only between lower and higher ones, and nowhere on 3 x 3 pixels, in a flat image.

    Objects of a pixel or two that touch their neighbours look so, too: but they are few, or the image is not flat.
    """
    if values.max() >= 1 << 16:  # of colours, the order will do
        values = np.unique(values, return_inverse=True)[1].reshape(values.shape)
    order, num = values.astype(np.float32), int(values.max()) + 1
    flat = cv2.erode(order, _NEXT) == cv2.dilate(order, _NEXT)
    is_flat = _members(values[flat], num)
    on_slope = (cv2.erode(order, _NEAR) < order) & (cv2.dilate(order, _NEAR) > order)
    is_slope = _members(values, num) & ~is_flat & ~_members(values[~on_slope], num)
    return bool(is_slope.sum() > is_flat.sum() >= 2 and flat.mean() > 0.5)


def _members(values: np.ndarray, num: int) -> np.ndarray:
    found = np.zeros(num, bool)
    found[values.ravel()] = True
    return found
