"""Statistics of FocusCut's training views (Alg. 1): where close-ups lie, how large they are, how bad their masks."""

import cv2
import numpy as np

from pipeline.data.coarse_masks import coarse_mask
from pipeline.data.focus_patches import FocusPatchConfig, border_pixels, draw_box
from tests.parity.cases import Case, Deviations, Kind, unpacked

NUM_BOXES, NUM_MASKS = 4000, 250
QUANTILES = 0.05, 0.25, 0.5, 0.75, 0.95
COARSE_SIDE = 192
CONFIG = FocusPatchConfig()
SIGMAS = 4.0
IOU_TOLERANCE = 0.05
RELATIVE_TOLERANCE = 0.05


def replay(case: Case) -> Deviations:
    record = case.record
    mask = unpacked(case.arrays[f"in_gt_{case.key}"], tuple(record["shape"]))
    border = unpacked(case.arrays[f"out_boundary_{case.key}"], tuple(record["shape"]))
    assert np.array_equal(border_pixels(mask), np.argwhere(border))
    assert len(border_pixels(mask)) == record["n_boundary_px"]
    k = float(np.sqrt(mask.sum()))
    assert k == record["k"]

    rng = np.random.default_rng(30)
    boxes = [draw_box(mask, rng, CONFIG) for _ in range(NUM_BOXES)]
    radii = np.array([(box.bottom - box.top) // 2 for box in boxes])
    y, x = np.array([((box.top + box.bottom) // 2, (box.left + box.right) // 2) for box in boxes]).T
    away = cv2.distanceTransform((~border).astype(np.uint8), cv2.DIST_C, 3)[y, x] / radii
    assert record["r_bound"][0] <= radii.min() <= record["r_min"] + 1
    assert record["r_max"] - 1 <= radii.max() <= record["r_bound"][1]
    # A rounded-down shift reaches less than a pixel further.
    assert (away < CONFIG.shift + 1 / radii).all()
    assert record["boundary_cheb_dist_over_r_max"] <= CONFIG.shift + 1 / record["r_min"]

    deviations = {}
    for name, ours in (("r_over_k", radii / k), ("boundary_cheb_dist_over_r", away)):
        theirs = np.array(record[f"{name}_quantiles"])
        off = np.abs(np.quantile(ours, QUANTILES) - theirs)
        # Distances are whole pixels: two draws' quantiles may differ by a part of one of a middling close-up.
        slack = 0.25 / np.median(radii) if name != "r_over_k" else 0
        assert (off <= RELATIVE_TOLERANCE * theirs + slack).all(), (name, np.quantile(ours, QUANTILES), theirs)
        deviations[f"{name} quantiles"] = float(off.max())
    share, expected = float(mask[y, x].mean()), record["frac_positive_centre"]
    deviations["positive centres (sigmas)"] = abs(share - expected) / np.sqrt(expected * (1 - expected) * 2 / NUM_BOXES)
    assert deviations["positive centres (sigmas)"] <= SIGMAS, (share, expected)

    side = COARSE_SIDE, COARSE_SIDE
    small = cv2.resize(mask.astype(np.uint8), side, interpolation=cv2.INTER_NEAREST) > 0
    coarse = [coarse_mask(small, rng, CONFIG.coarse) for _ in range(NUM_MASKS)]
    ious = [np.count_nonzero(made & small) / np.count_nonzero(made | small) for made in coarse]
    off = np.abs(np.quantile(ious, QUANTILES) - record["perturb_iou_quantiles_192px"])
    assert off.max() <= IOU_TOLERANCE, np.quantile(ious, QUANTILES)
    return deviations | {"IoU of coarse masks": float(off.max())}


KIND = Kind(stem=r"alg1_.*", fields=frozenset({"r_over_k_quantiles", "n_boundary_px"}), replay=replay)
