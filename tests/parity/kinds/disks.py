"""Clicks to disk maps."""

import torch

from models.click_maps import ClickBatch, disk_maps
from tests.models.tiny import permuted
from tests.parity.cases import Case, Deviations, Kind
from tests.parity.sessions import unpack


def replay(case: Case) -> Deviations:
    expected = torch.from_numpy(case.array("disks")).float()
    clicks = unpack(case.array("points"))
    hw, radius = (case.record["H"], case.record["W"]), float(case.record["radius"])
    assert torch.equal(disk_maps(clicks, hw, radius), expected)

    num = clicks.yx.shape[1]
    order = torch.randperm(num, generator=torch.Generator().manual_seed(num))
    moved = permuted(clicks, order)
    assert torch.equal(disk_maps(moved, hw, radius), expected), "the rows' order changed the maps"
    more = torch.zeros(clicks.yx.shape[0], 3, dtype=torch.bool)
    padded = ClickBatch(
        torch.cat([clicks.yx, torch.zeros(clicks.yx.shape[0], 3, 2)], 1),
        torch.cat([clicks.positive, ~more], 1),
        torch.cat([clicks.valid, more], 1),
        torch.cat([clicks.first, more], 1),
    )
    assert torch.equal(disk_maps(padded, hw, radius), expected), "padding changed the maps"
    return {}


KIND = Kind(stem="disks.*", fields=frozenset({"N", "radius", "integer"}), replay=replay)
