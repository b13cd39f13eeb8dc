"""Replays what the public implementations answered. `--parity-dir DIR` replays any folder of such fixtures."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.parity.cases import Case, Kind, discover, kind_of
from tests.parity.conftest import DEFAULT
from tests.parity.kinds import KINDS

COMMITTED = {
    "boundary_metrics": 10, "cfr": 12, "disks": 12, "emc": 4, "emc_clicker": 1, "emc_keys": 2, "emc_losses": 1,
    "emc_predictor": 1, "emc_restore": 2, "emc_templates": 1, "focus_paste_back": 1, "focus_range": 1,
    "focus_ratio": 1, "focus_simulation": 2, "focuscut_clicks": 4, "focuscut_keys": 1, "focuscut_networks": 2,
    "focuscut_toy": 6, "icmformer": 2, "icmformer_keys": 4, "layerwise_lr": 1, "losses": 10, "models": 5,
    "nextclick": 52, "noc": 8, "point_sampler_stats": 2, "points_tensor": 12, "sam": 3, "sam_keys": 7, "suem": 10,
    "toy_eval": 11,
    "train_click_cfr": 24, "train_click_ritm": 16, "zoomin": 30,
}  # fmt: skip
"""Cases per kind in the committed fixtures."""
COMMITTED_NOT_BUILT: dict[str, int] = {}
"""Committed cases that wait for something: to be emptied as it comes."""


def test_replay(kind_and_case: tuple[str, Case] | None, parity_folder: Path, deviations: dict[str, float]) -> None:
    assert kind_and_case is not None, f"no fixture in {parity_folder}: expected *.json files below it"
    name, case = kind_and_case
    assert name != "unknown", f"{case.path}: a JSON of no known kind (known: {', '.join(KINDS)})"
    assert name != "empty", f"{case.path}: holds no case"
    missing = KINDS[name].not_built(case)
    if missing is not None:
        pytest.skip(f"not built: {missing}")
    for quantity, value in KINDS[name].replay(case).items():
        deviations[f"{name} {quantity}"] = max(value, deviations.get(f"{name} {quantity}", 0.0))


def test_no_committed_case_disappears() -> None:
    found = discover(DEFAULT, KINDS)
    assert Counter(name for name, _ in found) == COMMITTED
    waiting = [KINDS[name].not_built(case) for name, case in found]
    assert Counter(name for name in waiting if name is not None) == COMMITTED_NOT_BUILT


def _kind(stem: str, *fields: str) -> Kind:
    return Kind(stem=stem, fields=frozenset(fields), replay=lambda case: {})


def test_kind_follows_from_content_and_stem_breaks_ties() -> None:
    kinds = {"a": _kind("a_.*", "x"), "b": _kind("b_.*", "x"), "c": _kind("c_.*", "y")}
    assert kind_of("anything", {"y": 1}, kinds) == "c"
    assert kind_of("b_2", {"cases": [{"x": 1}]}, kinds) == "b"
    assert kind_of("neither", {"x": 1}, kinds) is None
    assert kind_of("c_1", {"z": 1}, kinds) is None
    assert kind_of("c_1", [1, 2], kinds) is None


def test_unknown_empty_and_broken_files_are_cases_that_fail(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "strange.json").write_text(json.dumps({"what": 1}))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "c_1.json").write_text(json.dumps({"y": 1, "cases": []}))
    found = discover(tmp_path, {"c": _kind("c_.*", "y")})
    assert [(name, case.path.name) for name, case in found] == [
        ("unknown", "broken.json"),
        ("empty", "c_1.json"),
        ("unknown", "strange.json"),
    ]
