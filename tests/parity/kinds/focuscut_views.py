"""What FocusCut looks at: its zoom box, and its clicks in resized and cropped images."""

import numpy as np

from models.geometry import Box
from models.interaction import Clicks
from models.refinement import SquareZoom
from models.refinement.patches import whole_pixels
from models.refinement.square_zoom import square_box
from tests.parity.cases import Case, Deviations, unpacked


def replay_zoom(case: Case) -> Deviations:
    """Boxes around a previous mask and one click, exactly."""
    arrays, hw = case.arrays, tuple(case.content["shape"])
    rows = arrays["out_zoom_bbox_xywh_then_pos"].tolist()
    assert rows
    for number, (left, top, width, height, x, y, positive) in enumerate(rows):
        clicks = Clicks.of([(y, x, positive)])
        mask = unpacked(arrays[f"in_zoom_prev_{number}"], hw)
        box = square_box(mask, clicks.yx[clicks.positive], SquareZoom().expansion)
        assert box == (top, top + height - 1, left, left + width - 1)
    return {}


def replay_resized(case: Case) -> Deviations:
    """Clicks of an image that is resized to 384 x 288."""
    height, width = case.content["shape"]
    moved = whole_pixels(_clicks(case.arrays["in_pts"]), Box(0, height - 1, 0, width - 1), (288, 384))
    assert moved == _clicks(case.arrays["out_resized_384x288"])
    return {}


def replay_cropped(case: Case) -> Deviations:
    """Clicks of an image that is cropped: x 10, y 20, 100 wide, 80 high."""
    moved = whole_pixels(_clicks(case.arrays["in_pts"]), Box(20, 99, 10, 109), (80, 100))
    assert moved == _clicks(case.arrays["out_cropped_10_20_100_80"])
    return {}


def _clicks(rows: np.ndarray) -> Clicks:
    """Read rows (x, y, label); the padding of -1 is left out."""
    return Clicks.of([(y, x, label) for x, y, label in rows.tolist() if label >= 0])
