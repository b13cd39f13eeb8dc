"""The robot user's click, and IoU."""

import math

from models.interaction import Clicks
from pipeline.clicks.oracle import oracle_click
from pipeline.metrics import iou
from tests.parity.cases import Case, Deviations, Kind
from tests.parity.sessions import best_clicks, labels


def replay(case: Case) -> Deviations:
    gt, mask, record = case.array("gt"), case.array("pred") > 0, case.record
    object_mask, ignore = labels(gt)
    click = oracle_click(object_mask, ignore, mask, Clicks.of(record["prev_clicks"]))
    best, signs_tie = best_clicks(gt, mask, record["prev_clicks"])
    tied = {tuple(pixel) for pixel in record["tied_pixels"]}

    assert (click.y, click.x, click.positive) in best
    assert signs_tie == record["sign_tie"]
    if not record["sign_tie"]:
        assert click.positive == record["is_positive"]
        assert len(best) == record["n_tied"]
        if len(tied) == record["n_tied"]:
            assert (click.y, click.x) in tied
    ours = iou(mask, object_mask, ignore)
    assert math.isnan(ours) if record["iou"] is None else ours == record["iou"]
    return {}


KIND = Kind(stem="nextclick.*", fields=frozenset({"prev_clicks", "tied_pixels", "is_positive"}), replay=replay)
