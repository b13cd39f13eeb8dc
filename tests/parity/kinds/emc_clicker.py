"""EMC-Click's robot user: our oracle, fed the recorded clicks step by step.

The published one decides among equally distant pixels by the rounding of float32 distances: its click must be one of
the exact maxima, as ours is, and the same where there is one maximum only.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from models.interaction import Clicks
from pipeline.clicks.oracle import oracle_click
from tests.parity.cases import Case, Deviations, Kind, unpacked
from tests.parity.sessions import best_clicks, labels


def split(content: dict[str, Any]) -> Iterable[tuple[Any, Any]]:
    """Take the file as one case: its JSON does not say how many sequences there are."""
    return [("all", content)]


def replay(case: Case) -> Deviations:
    recorded = case.arrays["out_clicks_yxl"]
    assert recorded.shape[0] == len([name for name in case.arrays if name.startswith("in_gt_")]) > 0
    others = 0
    for number, sequence in enumerate(recorded.tolist()):
        gt = case.arrays[f"in_gt_{number}"]
        object_mask, ignore = labels(gt)
        for step, (y, x, label) in enumerate(sequence):
            mask = unpacked(case.arrays[f"in_pred_{number}_{step}"], gt.shape)
            assert step > 0 or not mask.any()
            before = [(y, x, bool(label)) for y, x, label in sequence[:step]]
            click = oracle_click(object_mask, ignore, mask, Clicks.of(before), np.random.default_rng(0))
            ours, theirs = (click.y, click.x, click.positive), (y, x, bool(label))
            best, _ = best_clicks(gt, mask, before)
            assert {ours, theirs} <= best, f"sequence {number}, click {step + 1}: {ours}, recorded {theirs}"
            assert ours == theirs or len(best) > 1
            others += ours != theirs
    return {"clicks at another of equal pixels": float(others)}


KIND = Kind(
    stem="emc_clicker.*", fields=frozenset({"model", "samples", "stats", "tolerance"}), replay=replay, split=split
)
