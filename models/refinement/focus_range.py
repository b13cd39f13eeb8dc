"""Decide whether a click corrected a detail, and how far the detail reaches (Lin et al., FocusCut, Alg. 2)."""

from typing import NamedTuple

import cv2
import numpy as np

MIN_DISTANCE = 5
"""Shortest reach of a click, in pixels of the image."""


class FocusRange(NamedTuple):
    """Chessboard distance in pixels that the detail reaches from the click, and whether it gets a close-up."""

    distance: int
    focus: bool


def focus_range(before: np.ndarray, after: np.ndarray, yx: tuple[int, int], min_area_ratio: float) -> FocusRange:
    """Judge a click by its change: `before` is the last final mask, `after` the mask from the whole view (bool).

    The click corrects a detail if the change around it (4 neighbours) is smaller than `min_area_ratio` of the mask, or
    if its own pixel did not change. In the second case the detail reaches to the nearest pixel that has the other label
    in `before`; without such a pixel there is no detail (ours: the public code does not handle this case).
    """
    changed = before != after
    if not changed[yx]:
        same = before == before[yx]
        if same.all():
            return FocusRange(MIN_DISTANCE, False)
        distance = cv2.distanceTransform(same.astype(np.uint8), cv2.DIST_C, 3)[yx]
        return FocusRange(max(int(distance), MIN_DISTANCE), True)
    _, parts = cv2.connectedComponents(changed.astype(np.uint8), connectivity=4)
    region = np.argwhere(parts == parts[yx])
    focus = len(region) < min_area_ratio * int(after.sum())
    return FocusRange(max(int(np.abs(region - yx).max()), MIN_DISTANCE), focus)
