"""Click lists to the published packed layout."""

import torch

from models.interaction import Clicks
from models.published import pack_clicks
from tests.parity.cases import Case, Deviations, Kind


def replay(case: Case) -> Deviations:
    packed = pack_clicks(Clicks.of(case.record["clicks"]), case.record["net_clicks_limit"])
    assert torch.equal(packed, torch.tensor(case.record["points"], dtype=torch.float32))
    return {}


KIND = Kind(stem="points_tensor.*", fields=frozenset({"clicks", "net_clicks_limit", "points"}), replay=replay)
