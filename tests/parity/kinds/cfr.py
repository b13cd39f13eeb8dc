"""Cascade-forward refinement of the toy network."""

from tests.parity.cases import Case, Deviations, Kind
from tests.parity.sessions import ToySession, best_clicks, refinement

THRESHOLD = 0.49


def replay(case: Case) -> Deviations:
    record = case.record
    gt, hw = case.array("gt"), (record["H"], record["W"])
    settings = {name: record[name] for name in PREDICTOR_SETTINGS}
    session = ToySession(case.array("image"), refinement(record["zoom"], record["flip"], settings))
    clicks: list[tuple[float, float, bool]] = []
    off = 0.0
    for number, step in enumerate(record["steps"]):
        before = session.after(clicks)
        mask = before.mask(THRESHOLD) if clicks else gt > 2
        best, signs_tie = best_clicks(gt, mask, clicks)
        assert tuple(step["click"]) in best
        if not signs_tie:
            assert len(best) == step["n_tied"]
        clicks.append(tuple(step["click"]))
        after = session.after(clicks)
        assert after.num_forwards - before.num_forwards == step["forward_calls"]
        mask = after.mask(THRESHOLD)
        assert (mask == case.unpacked(f"mask{number}", hw)).all()
        assert int(mask.sum()) == step["area"]
        off = max(off, abs(float(after.prob.astype("f8").sum()) - step["prob_sum"]) / max(1.0, step["prob_sum"]))
    assert off <= 1e-5
    return {"sum of probabilities": off}


PREDICTOR_SETTINGS = ("cascade_step", "cascade_adaptive", "cascade_clicks")
KIND = Kind(stem="cfr.*", fields=frozenset({*PREDICTOR_SETTINGS, "zoom", "flip", "steps"}), replay=replay)
