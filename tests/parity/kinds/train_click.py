"""The training loop's next click: where it may land, its sign and its row."""

import numpy as np
import torch

from pipeline.clicks.training_clicks import TRAINING_CLICKS, click_row
from tests.parity.cases import Case, Deviations, Kind
from tests.parity.sessions import unpack
from tests.pipeline.published_clicks import add_clicks, admissible

# The order column is not replayed: no published network reads it, and ClickBatch has none.


def replay(case: Case) -> Deviations:
    record = case.record
    hw = (record["H"], record["W"])
    target, clicks = case.array("gt"), unpack(case.array("points"))
    prob = case.array("pred").astype(np.float32) / np.float32(255)
    if record.get("pred_is_constant_049"):
        prob = np.full(hw, 0.49, np.float32)
    number = record.get("click_indx")
    allowed, positive = admissible(prob, target)
    assert (allowed == case.unpacked("admissible", hw)).all()
    assert int(allowed.sum()) == record["n_admissible"]
    rng = np.random.default_rng(0)
    batch = torch.from_numpy(prob)[None, None], torch.from_numpy(target.astype(np.float32))[None, None]
    added = add_clicks(clicks, *batch, rng, number=number)
    if record["slot"] is None:
        assert torch.equal(added.yx, clicks.yx)
        assert torch.equal(added.valid, clicks.valid)
        return {}
    assert positive == record["is_positive"]
    valid = clicks.valid[0].numpy()
    rule = TRAINING_CLICKS["cfr" if number is None else "ritm"]
    row = int(click_row(clicks.valid, torch.tensor([positive]), rule, number)[0])
    assert row == record["slot"]
    assert added.valid[0, row]
    assert bool(added.positive[0, row]) == positive
    y, x = added.yx[0, row].int().tolist()
    assert allowed[y, x]
    others = torch.arange(len(valid)) != row
    assert torch.equal(added.yx[0, others], clicks.yx[0, others])
    assert torch.equal(added.valid[0, others], clicks.valid[0, others])
    return {}


COMMON = frozenset({"n_admissible", "slot", "new_order"})
CFR = Kind(stem="train_click_cfr.*", fields=COMMON | {"n_pos", "n_neg"}, replay=replay)
RITM = Kind(stem="train_click_ritm.*", fields=COMMON | {"click_indx"}, replay=replay)
