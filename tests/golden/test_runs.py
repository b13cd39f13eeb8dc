"""Golden runs that were stopped: the same command, or --resume, continues them with the same result."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from jobs import compare, evaluate, sweep, tracking, train
from jobs.cli import as_dict, parse
from jobs.config import TrainConfig, for_reader_of
from jobs.presets import PRESETS
from models import checkpoint as checkpoints
from models import rle
from models.refinement import named
from pipeline.evaluation import results
from pipeline.tuning.settings import identity
from tests.golden import commands, lists
from tests.golden.asking import SPARE, lost
from tests.golden.growing import gone

CLOSE = 0.01
"""Tolerance for numbers between 0 and 1, since another CPU's rounding may move a pixel."""


def golden_keys(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "lists.json").read_text())["keys"]


def moved(golden: Path, folder: Path, mlflow_uri: str) -> Path:
    """Copy the stopped run to another folder, with a run in this MLflow."""
    shutil.copytree(golden / "run", folder / "stopped")
    shutil.copytree(golden / "checkpoints" / "name", folder / "checkpoints" / "name")
    path = folder / "stopped" / "config.json"
    saved = json.loads(path.read_text().replace(commands.ROOT, str(folder)))
    path.write_text(json.dumps(saved | {"run_id": tracking.start_run(mlflow_uri, "golden", {})}))
    return folder / "stopped"


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_resumed_run_ends_with_golden_weights(
    ray_cluster: None, golden: Path, tmp_path: Path, mlflow_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """--resume restores Adam's state, the running average and the position in the stream from the checkpoint.

    On the machine that made the golden run, the weights are equal bit for bit. Elsewhere they may differ by a hundredth
    of the last steps' change. A run that loses one of the three differs by a quarter or more.
    """
    run = moved(golden, tmp_path, mlflow_uri)
    (middle,) = (golden / "run" / "ray" / "train").glob("checkpoint_*/")
    assert json.loads((middle / "progress.json").read_text())["step"] == 50
    assert train.main(["--resume", str(run)]) == 0
    said = capsys.readouterr().out
    assert f"resuming the run in {run}" in said
    assert "step 10/100 " not in said, "what was done is not done again"
    found, known, before = (
        load_file(folder / checkpoints.WEIGHTS) for folder in (run / "checkpoint", golden / "run_final", middle)
    )
    assert distance(found, known) <= 0.01 * distance(before, known)
    description = checkpoints.describe(run / "checkpoint")
    assert named(description["info"]["refinement"]) == named("cfr_1")
    assert description["info"]["step"] == 100
    keys = golden_keys(golden)
    found_keys = lists.keys(run / "config.json", run / "checkpoint" / "checkpoint.json")
    assert gone(keys["checkpoint.json"], found_keys["checkpoint.json"]) == []
    assert gone(keys["config.json"], found_keys["config.json"]) == []


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return sum(float((one[name] - other[name]).abs().sum()) for name in one)


def test_config_of_a_new_run_has_all_golden_keys(golden: Path, tmp_path: Path) -> None:
    argv = commands.train(tmp_path)[1:]
    preset = PRESETS["demo"]()
    preset = dataclasses.replace(preset, data=for_reader_of(argv, preset.data))
    config = parse(TrainConfig, argv, prog="train", default=preset)
    (tmp_path / "config.json").write_text(json.dumps({"run_id": "", "preset": "demo", "config": as_dict(config)}))
    assert gone(golden_keys(golden)["config.json"], lists.keys(tmp_path / "config.json")["config.json"]) == []


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_resumed_evaluation_ends_with_golden_results(
    ray_cluster: None, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, keys = tmp_path / "evaluation", golden_keys(golden)
    shutil.copytree(golden / "evaluation", out)
    head, *pieces = (out / "journal.jsonl").read_text().splitlines()
    assert len(pieces) == 3
    # Times that nothing else has: what is in the results has come from the journal.
    marked = [json.loads(line) for line in pieces]
    for piece in marked:
        piece["seconds"] = {name: 1000.0 for name in piece["seconds"]}
    (out / "journal.jsonl").write_text("\n".join([head, *map(json.dumps, marked)]) + "\n")
    assert evaluate.main([*commands.evaluate(golden / "checkpoints" / "name"), "--out", str(out)]) == 0
    assert "resuming: 3 pieces of work are done" in capsys.readouterr().out
    rows, summaries = results.read(out)
    known_rows, known_summaries = results.read(golden / "evaluation_final")
    for summary, known in zip(summaries, known_summaries, strict=True):
        assert 1000 * sum(piece["part"] == 0 for piece in marked) <= summary["seconds"] or summary["policy"] != "oracle"
        assert_near(known, summary)
    assert sum(1000 <= summary["seconds"] < 3100 for summary in summaries) == 2
    for row, known in zip(rows, known_rows, strict=True):
        assert (row.key, row.item, row.object, row.category) == (known.key, known.item, known.object, known.category)
        assert row.ious == pytest.approx(known.ious, abs=CLOSE)
        masks = [rle.decode({"size": [r.height, r.width], "counts": r.mask}) for r in (row, known)]
        assert (masks[0] ^ masks[1]).sum() <= SPARE
    columns = json.loads((golden / "lists.json").read_text())["columns"]["evaluation"]
    for name, found in lists.columns(out).items():
        assert gone(columns[name], found) == []
    assert gone(keys["summary.json"], lists.keys(out / "summary.json")["summary.json"]) == []
    # What was measured then is compared with what is measured now.
    both = [str(golden / "evaluation_final"), str(out), "--refine-a", "standard", "--refine-b", "cfr_2"]
    assert compare.main([*both, "--policy", "oracle", "--out", str(tmp_path / "compared")]) == 0
    found = lists.keys(tmp_path / "compared" / "compare.json")["compare.json"]
    assert gone(keys["compare.json"], found) == []


def assert_near(known: Any, found: Any, at: str = "") -> None:
    """Compare everything except times: texts are equal, and numbers are close."""
    if isinstance(known, dict):
        for name, value in known.items():
            if not name.startswith("seconds"):
                assert_near(value, found[name], f"{at}/{name}")
    elif isinstance(known, float):
        assert found == pytest.approx(known, abs=CLOSE, rel=CLOSE), at
    else:
        assert found == known, at


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_resumed_sweep_ends_with_golden_results(ray_cluster: None, golden: Path, tmp_path: Path) -> None:
    out, keys = tmp_path / "sweep", golden_keys(golden)
    shutil.copytree(golden / "sweep", out)
    before = (out / "journal.jsonl").read_text()
    assert sweep.main([*commands.sweep(golden / "checkpoints" / "name"), "--out", str(out)]) == 0
    after = (out / "journal.jsonl").read_text()
    assert after.startswith(before)
    played = [(piece["part"], piece["piece"]) for piece in map(json.loads, after.splitlines()[1:])]
    assert len(set(played)) == len(played), "what was played is not played again"
    found, known = (json.loads((folder / "sweep.json").read_text()) for folder in (out, golden / "sweep_final"))
    for setting in (*found["settings"], *known["settings"]):
        del setting["seconds_per_click"], setting["forwards"]
    assert lost(known["settings"], found["settings"]) == []
    best = [json.loads((folder / "best.json").read_text()) for folder in (golden / "sweep_final", out)]
    assert lost(*best) == []
    for name in ("sweep.json", "best.json"):
        assert gone(keys[name], lists.keys(out / name)[name]) == []


def test_settings_of_a_sweep_keep_their_names(golden: Path) -> None:
    """The journal, and folders of trained settings, identify a setting by its digest."""
    settings = json.loads((golden / "sweep_final" / "sweep.json").read_text())["settings"]
    assert {entry["name"]: identity(named("standard"), entry["values"]) for entry in settings} == {
        entry["name"]: entry["name"] for entry in settings
    }
