"""Whole evaluations of the toy network: by recorded clicks step by step, then by our own robot user."""

import numpy as np

from models.interaction import Clicks
from pipeline.clicks.oracle import oracle_click
from pipeline.metrics import iou, noc
from tests.parity.cases import Case, Deviations, Kind, unpacked
from tests.parity.sessions import ToySession, best_clicks, labels, refinement

ON_THRESHOLD = 1e-6
"""Closer than this to the threshold, a pixel may fall to either side."""
NOC_BAND = 0.15
"""Of a configuration's mean NoC: the public robot user breaks ties at random, so that free runs part there."""
NOC_BAND_ONE_THRESHOLD = 0.25
"""Of NoC at one threshold, where two clicks more or less on ten images are already 0.2."""


def replay(case: Case) -> Deviations:
    config, content = case.record["config"], case.content
    assert config.keys() <= {"zoom", "flip", "pred"}, f"configuration not translated: {config}"
    settings = refinement(config["zoom"], config.get("flip", True), config.get("pred", {}))
    worst, free = 0.0, []
    for row in case.record["rows"]:
        gt = case.arrays[f"i{row['image']}_gt"]
        session = ToySession(case.arrays[f"i{row['image']}_image"], settings)
        worst = max(worst, _by_recorded_clicks(case, row, session, gt))
        free.append(_by_own_clicks(session, gt, content))
    off = [
        noc(free, quality, content["max_clicks"]) - expected
        for quality, expected in zip(case.record["thresholds"], case.record["noc"], strict=True)
    ]
    assert abs(np.mean(off)) <= NOC_BAND, off
    assert np.abs(off).max() <= NOC_BAND_ONE_THRESHOLD, off
    return {
        "IoU": worst,
        "free-running NoC": float(abs(np.mean(off))),
        "free-running NoC, one threshold": float(np.abs(off).max()),
    }


def _by_recorded_clicks(case: Case, row: dict, session: ToySession, gt: np.ndarray) -> float:
    threshold, worst = case.content["pred_thr"], 0.0
    object_mask, ignore = labels(gt)
    clicks: list[tuple[float, float, bool]] = []
    mask = np.zeros(gt.shape, bool)
    for number, click in enumerate(row["clicks"]):
        best, signs_tie = best_clicks(gt, mask, clicks)
        certain = number == 0 or row["min_abs_margin"][number - 1] >= ON_THRESHOLD
        if certain:
            assert tuple(click) in best, f"click {number} of image {row['image']}"
            assert signs_tie == row["sign_tie"][number]
            assert signs_tie or len(best) == row["n_tied"][number]
        clicks.append(tuple(click))
        after = session.after(clicks)
        mask = after.mask(threshold)
        box = None if after.state.zoom_box is None else list(after.state.zoom_box)
        assert after.num_forwards == row["forward_calls_after_click"][number]
        assert box == row["roi_after_click"][number]
        if row["min_abs_margin"][number] >= ON_THRESHOLD:
            assert int(mask.sum()) == row["mask_area_after_click"][number]
            off = abs(iou(mask, object_mask, ignore) - row["ious"][number])
            assert off <= 1e-6
            worst = max(worst, off)
    stored = f"{case.key}_i{row['image']}_final_mask"
    if stored in case.arrays and row["min_abs_margin"][-1] >= ON_THRESHOLD:
        assert (mask == unpacked(case.arrays[stored], gt.shape)).all()
    return worst


def _by_own_clicks(session: ToySession, gt: np.ndarray, content: dict) -> list[float]:
    object_mask, ignore = labels(gt)
    clicks: list[tuple[float, float, bool]] = []
    mask, ious = np.zeros(gt.shape, bool), []
    while len(ious) < content["max_clicks"]:
        click = oracle_click(object_mask, ignore, mask, Clicks.of(clicks))
        clicks.append((click.y, click.x, click.positive))
        mask = session.after(clicks).mask(content["pred_thr"])
        ious.append(iou(mask, object_mask, ignore))
        if ious[-1] >= content["target_iou"]:
            break
    return ious


KIND = Kind(stem="toy_eval.*", fields=frozenset({"config", "rows", "pred_thr", "target_iou"}), replay=replay)
