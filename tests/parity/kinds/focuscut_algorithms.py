"""FocusCut's parts: Alg. 2 (is it a detail), Alg. 3 (how close next) and the averaging of close-ups."""

import numpy as np

from models.geometry import Box
from models.refinement.focus import Focus
from models.refinement.focus_range import focus_range
from models.refinement.patches import Patch, paste_back
from models.refinement.progressive_focus import next_ratio
from tests.parity.cases import Case, Deviations, Kind, unpacked, whole_file
from tests.parity.samples import FIELDS

CONFIG = Focus()


def _focus_range(case: Case) -> Deviations:
    arrays, hw = case.arrays, tuple(case.content["shape"])
    for number, (x, y, _) in enumerate(arrays["in_click_xyl"].tolist()):
        before, after = (unpacked(arrays[name][number], hw) for name in ("in_prev", "in_cur"))
        assert (before[y, x] != after[y, x]) == arrays["out_click_changed"][number]
        found = focus_range(before, after, (y, x), CONFIG.min_area_ratio)
        assert found == (arrays["out_r_base"][number], arrays["out_focus"][number])
        assert int(found.distance * CONFIG.margin) == arrays["out_r"][number]
    return {"range, judgement": 0.0}


def _ratio(case: Case) -> Deviations:
    arrays, off = case.arrays, 0.0
    for side in (384, 512):
        for number, expected in enumerate(arrays[f"out_ratio_{side}"]):
            names = (f"in_prev_{side}", f"in_cur_{side}")
            masks = (unpacked(arrays[name][number], (side, side)) for name in names)
            ratio = next_ratio(*masks, growth=CONFIG.growth, erosion=CONFIG.erosion)
            assert (ratio is None) == bool(np.isnan(expected))
            off = max(off, 0.0 if ratio is None else abs(ratio - expected))
    assert off <= 1e-6
    return {"ratio": off}


def _paste_back(case: Case) -> Deviations:
    arrays = case.arrays
    boxes = [Box(y - r, y + r, x - r, x + r) for x, y, r in arrays["in_xyR"].tolist()]
    patches = [Patch(prob, box) for prob, box in zip(arrays["in_patches"], boxes, strict=True)]
    result, count = paste_back(arrays["in_base"], patches)
    assert (count == arrays["out_count"]).all()
    off = float(np.abs(result - arrays["out_result"]).max())
    assert off <= 1e-5
    return {"probability": off}


FOCUS_RANGE = Kind(stem=r"alg2_.*", fields=FIELDS, split=whole_file, replay=_focus_range)
RATIO = Kind(stem=r"alg3_.*", fields=FIELDS, split=whole_file, replay=_ratio)
PASTE_BACK = Kind(stem=r"paste_back.*", fields=FIELDS, split=whole_file, replay=_paste_back)
