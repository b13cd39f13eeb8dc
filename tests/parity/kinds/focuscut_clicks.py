"""FocusCut's helpers, a part of the file each: `PARTS` says who replays it."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from models.interaction import Clicks
from pipeline.clicks.focuscut import focuscut_click
from tests.parity.cases import Case, Deviations, Kind, unpacked
from tests.parity.kinds.focuscut_views import replay_cropped, replay_resized, replay_zoom

Replay = Callable[[Case], Deviations]


def replay_robot(case: Case) -> Deviations:
    """Rows (x, y, label): `in_ignore_pt` is the click made before."""
    hw = tuple(case.content["shape"])
    expected = case.arrays["out_next"].tolist()
    assert expected
    pairs = zip(case.arrays["in_pred"], case.arrays["in_gt"], case.arrays["in_ignore_pt"].tolist(), strict=True)
    for number, (packed_mask, packed_gt, (x, y, label)) in enumerate(pairs):
        mask, object_mask = unpacked(packed_mask, hw), unpacked(packed_gt, hw)
        before = Clicks.of([(y, x, bool(label))])
        click = focuscut_click(object_mask, np.zeros(hw, bool), mask, before, np.random.default_rng(0))
        assert [click.x, click.y, int(click.positive)] == expected[number], f"robot {number}"
    return {}


PARTS: dict[str, Replay] = {
    "robot": replay_robot, "resized": replay_resized, "cropped": replay_cropped, "zoom": replay_zoom
}  # fmt: skip


def split(content: dict[str, Any]) -> Iterable[tuple[Any, Any]]:
    return [(part, content) for part in PARTS]


def replay(case: Case) -> Deviations:
    return PARTS[case.key](case)


KIND = Kind(
    stem="focuscut_clicks.*",
    fields=frozenset({"model", "samples", "stats", "tolerance", "shape"}),
    split=split,
    replay=replay,
)
