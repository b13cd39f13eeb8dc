"""The robot user of evaluation: the next click where the mask is most wrong (Sofiiuk et al., RITM).

docs/PAPERS.md, RITM: robot user and metrics.
The published rule compares float32 distances, whose last bit differs between calls, so that equally distant pixels
come in a random order. Here distances are exact squared integers: the same clicks on every machine.
"""

import cv2
import numpy as np

from models.interaction import Click, Clicks


def squared_distances(region: np.ndarray) -> np.ndarray:
    """Exact squared distance of each pixel of a bool region (h, w) to the nearest pixel outside, int64; 0 outside.

    Outside begins beyond the image's edge. OpenCV's precise transform is off by about an ulp: rounding its square to
    the nearest integer is exact for any image side below about 3000 pixels.
    """
    padded = cv2.copyMakeBorder(region.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distances = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return np.rint(distances.astype(np.float64) ** 2).astype(np.int64)


def oracle_click(
    object_mask: np.ndarray,
    ignore_mask: np.ndarray,
    mask: np.ndarray,
    clicks: Clicks,
    rng: np.random.Generator | None = None,
) -> Click:
    """Click the middle of the larger error: the pixel farthest from its border, first in row-major order among equals.

    All masks bool (h, w). A pixel already clicked is not clicked again; a tie of both errors is a negative click. If
    nothing is wrong the click is negative at (0, 0), as in the public code, even where that is the object. Nothing is
    drawn: `rng` is ignored.
    """
    errors = (object_mask & ~mask & ~ignore_mask, ~object_mask & mask & ~ignore_mask)
    missed, false_alarm = (squared_distances(error) for error in errors)
    done = clicks.yx.astype(int)
    for distances in (missed, false_alarm):
        distances[done[:, 0], done[:, 1]] = 0
    positive = bool(missed.max() > false_alarm.max())
    distances = missed if positive else false_alarm
    y, x = np.unravel_index(int(distances.argmax()), distances.shape)
    return Click(y=int(y), x=int(x), positive=positive)
