"""The robot user of evaluation: it clicks where the mask is most wrong (Sofiiuk et al., RITM).

docs/PAPERS.md, RITM: robot user and metrics. The published rule compares float32 distances, whose last bit differs
between calls, so that pixels at equal distance come in a random order. Here distances are exact squared integers, which
give the same clicks on every machine.
"""

import cv2
import numpy as np

from models.interaction import Click, Clicks


def squared_distances(region: np.ndarray) -> np.ndarray:
    """Return each pixel's exact squared distance to the nearest pixel outside a bool region (h, w), int64; 0 outside.

    Beyond the image's edge is outside. OpenCV's precise transform is off by about an ulp: rounding its square to the
    nearest integer is exact for image sides below about 3000 pixels.
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
    """Click the middle of the larger error: its deepest pixel, the first in row-major order among equals.

    All masks bool (h, w). A clicked pixel is not clicked again; if both errors are equally deep, the click is negative.
    If nothing is wrong, the click is negative at (0, 0), as in the public code, even if that is on the object. Nothing
    is random: `rng` is ignored.
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
