"""Find the threshold of masks whose values are not labels, because edges were smoothed or the file was compressed.

Arrays in, arrays out.
"""

import cv2
import numpy as np

from pipeline.data.mask_files import NOISE

_NEAR = np.ones((5, 5), np.uint8)
"""Neighbourhood of two pixels."""
_NEXT = np.ones((3, 3), np.uint8)


def soft_threshold(values: np.ndarray, *, lossy: bool) -> float | None:
    """Return the threshold of a mask whose values are not labels; None if they are. `values`: integers >= 0, (h, w).

    One or two values are labels. More are not if the file is lossy, if those between the smallest and the largest occur
    only within two pixels of both, or if most values occur on slopes alone. The threshold is halfway between the lowest
    value and the next one around which the mask is flat, which is the middle if the mask shows one object.
    """
    lowest, highest = int(values.min()), int(values.max())
    between = (values > lowest) & (values < highest)
    if not between.any():
        return None
    if lossy and highest - lowest < NOISE:  # a single value, which is black if it is below NOISE
        return NOISE - 0.5
    if not lossy and not (_near(values == lowest) & _near(values == highest))[between].all() and not _is_slopes(values):
        return None
    # Neighbouring labels that were smoothed may be close; for eight bits both limits are 16.
    cut = _above_lowest_level(values.astype(np.float32), NOISE if lossy else (highest - lowest) / NOISE)
    return (lowest + highest) / 2 if cut is None else cut


def _near(mask: np.ndarray) -> np.ndarray:
    return cv2.dilate(mask.astype(np.uint8), _NEAR) > 0


def _above_lowest_level(values: np.ndarray, noise: float) -> float | None:
    """Return the middle of the two lowest levels at which a mask is flat up to noise; None if there is only one."""
    flat = values[cv2.dilate(values, _NEAR) - cv2.erode(values, _NEAR) < noise]
    found = np.unique(flat)
    levels = np.split(found, np.flatnonzero(np.diff(found) > noise / 2) + 1)
    if len(levels) < 2 or levels[0][0] > values.min() + noise:
        return None
    return float(levels[0][0] + levels[0][-1] + levels[1][0] + levels[1][-1]) / 4


def _is_slopes(values: np.ndarray) -> bool:
    """Whether, in a flat image, most values occur only between lower and higher ones, and nowhere on 3 x 3 pixels.

    Objects of one or two pixels that touch their neighbours look the same, but they are few, or the image is not flat.
    """
    if values.max() >= 1 << 16:  # for colours, their order is enough
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
