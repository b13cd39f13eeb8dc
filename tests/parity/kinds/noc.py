"""Curves of IoU to NoC and its companions."""

import numpy as np

from pipeline.metrics import clicks_to, noc, nof, num_at_max
from tests.parity.cases import Case, Deviations, Kind


def replay(case: Case) -> Deviations:
    record = case.record
    sessions, most, worst = record["ious"], record["max_clicks"], 0.0
    for i, quality in enumerate(record["thresholds"]):
        counts = [clicks_to(ious, quality, most) for ious in sessions]
        off = max(abs(noc(sessions, quality, most) - record["noc"][i]), abs(np.std(counts) - record["noc_std"][i]))
        assert off <= 1e-9, f"NoC@{quality}"
        assert num_at_max(sessions, quality, most) == record["n_at_max"][i]
        assert nof(sessions, quality, most) == record["nof_strict"][i]
        worst = max(worst, float(off))
    return {"NoC": worst}


KIND = Kind(stem="noc.*", fields=frozenset({"max_clicks", "thresholds", "ious", "noc"}), replay=replay)
