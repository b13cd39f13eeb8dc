"""What FocusCut looks at: its zoom box, and its clicks in resized and cropped images."""

import numpy as np

from models.geometry import Box
from models.interaction import Clicks
from models.refinement import SquareZoom
from models.refinement.patches import whole_pixels
from models.refinement.square_zoom import square_box
from tests.parity.cases import Case, Deviations, Kind, unpacked, whole_file
from tests.parity.samples import FIELDS


def check_zoom_boxes(case: Case) -> None:
    """Boxes around a previous mask and one click, exactly."""
    arrays, hw = case.arrays, tuple(case.content["shape"])
    for number, row in enumerate(case.arrays["out_zoom_bbox_xywh_then_pos"].tolist()):
        left, top, width, height, x, y, positive = row
        clicks = Clicks.of([(y, x, positive)])
        mask = unpacked(arrays[f"in_zoom_prev_{number}"], hw)
        box = square_box(mask, clicks.yx[clicks.positive], SquareZoom().expansion)
        assert box == (top, top + height - 1, left, left + width - 1)


def check_moved_clicks(case: Case) -> None:
    """Clicks of an image that is resized to 384x288, and of one that is cropped (x 10, y 20, 100 wide, 80 high)."""
    arrays = case.arrays
    height, width = case.content["shape"]
    for name, box, hw in (
        ("out_resized_384x288", Box(0, height - 1, 0, width - 1), (288, 384)),
        ("out_cropped_10_20_100_80", Box(20, 99, 10, 109), (80, 100)),
    ):
        moved = whole_pixels(_clicks(arrays["in_pts"]), box, hw)
        assert moved == _clicks(arrays[name])


def _clicks(rows: np.ndarray) -> Clicks:
    """Read rows (x, y, label); the padding of -1 is left out."""
    return Clicks.of([(y, x, label) for x, y, label in rows.tolist() if label >= 0])


def _replay(case: Case) -> Deviations:
    check_zoom_boxes(case)
    check_moved_clicks(case)
    return {"zoom box, clicks": 0.0}


KIND = Kind(stem=r"focuscut_clicks_.*", fields=FIELDS, split=whole_file, replay=_replay)
