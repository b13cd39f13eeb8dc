"""BIoU, ASSD and IoU of pairs of masks. The published ASSD takes ignored pixels for background; BIoU got none."""

from collections.abc import Iterable
from typing import Any

from pipeline.boundaries import assd, biou
from pipeline.metrics import iou
from tests.parity.cases import Case, Deviations, Kind, unpacked

ROOM = 1e-9


def split(content: dict[str, Any]) -> Iterable[tuple[Any, Any]]:
    return [(number, tuple(hw)) for number, hw in enumerate(content["shapes"])]


def replay(case: Case) -> Deviations:
    mask, gt, ignore = (
        unpacked(case.arrays[f"in_{name}_{case.key}"], case.record) for name in ("pred", "gt", "ignore")
    )
    ours = {"iou": iou(mask, gt, ignore), "biou": biou(mask, gt), "assd": assd(mask, gt & ~ignore)}
    worst: Deviations = {}
    for name, value in ours.items():
        expected = float(case.arrays[f"out_{name}"][case.key])
        off = abs(value - expected) / max(abs(expected), 1e-12)
        assert off <= ROOM, f"{name}: {value}, expected {expected}"
        worst[f"{name} (relative)"] = off
    return worst


KIND = Kind(stem="biou_assd.*", fields=frozenset({"shapes", "ignore_rule"}), replay=replay, split=split)
