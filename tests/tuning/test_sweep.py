"""Sweeps on Ray Tune, started as a user does."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from jobs import tracking
from jobs.sweep import main as sweep_main
from models import checkpoint as checkpoints
from models.errors import InputError
from models.fingerprints import fingerprint
from models.predictor import Predictor
from pipeline.data.readers import open_reader
from pipeline.evaluation.journal import Journal, PieceResult
from tests.evaluation.fakes import row
from tests.training.tiny import tiny_network

DATA = ("--reader", "scenes", "--options", "num_images", "8", "height", "64", "width", "64")
PROTOCOL = ("--protocol.max-clicks", "3", "--protocol.max-objects", "10")
NARROW = (
    "--set", "refine.cascade.steps", "0,1,2", "refine.cascade.adaptive", "false", "refine.cascade.on_first_clicks", "1",
    "refine.mask_threshold", "0.3,0.49",
)  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = tiny_network()
    network.get_parameter("head.conv_seg.weight").data.mul_(20)
    scenes = open_reader("scenes", options=dict(zip(DATA[3::2], DATA[4::2], strict=True)))
    photos = {fingerprint(scenes.load(item).image) for item in list(scenes.items())[:2]}
    return checkpoints.save(network, tmp_path_factory.mktemp("swept") / "checkpoint", photos=photos)


def flags(checkpoint: Path, out: Path) -> list[str]:
    return [
        "cfr", "--checkpoint", str(checkpoint), *DATA, *PROTOCOL, *NARROW, "--objective", "noc80",
        "--scaling.actors", "2",
        "--scaling.num-cpus", "0.4", "--refine", "standard", "--out", str(out),
    ]  # fmt: skip


def results_of(out: Path) -> list[dict[str, Any]]:
    """Return the results that do not depend on time."""
    timed = ("seconds_per_click", "forwards")
    found = json.loads((out / "sweep.json").read_text())["settings"]
    return [{key: value for key, value in setting.items() if key not in timed} for setting in found]


def test_a_journal_of_other_images_is_refused_before_anything_starts(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs import ray_env

    def stop(*given: Any, **named: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(ray_env, "connected", contextlib.nullcontext)
    monkeypatch.setattr(ray_env, "fit_actors", lambda *given: (1, 0.4))
    monkeypatch.setattr(tracking, "start_run", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep_main(flags(checkpoint, tmp_path))
    path = tmp_path / "journal.jsonl"
    result = PieceResult(rows={"a": [row("shot_0/1", [0.5])]}, seconds={"a": 1.0}, refused=[])
    Journal(path, json.loads(path.read_text())["settings"]).add(77, 0, result)
    with pytest.raises(InputError, match="'shot_0', which is not at this place of the data set"):
        sweep_main(flags(checkpoint, tmp_path))


@pytest.mark.ray
@pytest.mark.timeout(300)
def test_the_best_setting_of_a_sweep_repeats_its_result(
    ray_cluster: None, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobs.evaluate import main as evaluate_main

    out = tmp_path / "sweep"
    few = [{"0,1,2": "0,1", "0.3,0.49": "0.49"}.get(flag, flag) for flag in flags(checkpoint, out)]
    assert sweep_main(few) == 0
    # The checkpoint was trained on two of the scenes.
    assert "trained on 2 of these images (scene-0-000000000, scene-0-000000001)" in capsys.readouterr().out
    settings = json.loads((out / "sweep.json").read_text())["settings"]
    assert len(settings) == 2  # the default is one of them
    best = settings[0]
    evaluate_main(
        ["--checkpoint", str(checkpoint), *DATA, *PROTOCOL, "--refine", str(out / "best.json"), "--protocol.qualities",
         "0.8", "--protocol.target-iou", "0.8", "--scaling.actors", "1", "--scaling.num-cpus", "0.4",
         "--out", str(tmp_path / "again")]
    )  # fmt: skip
    (again,) = json.loads((tmp_path / "again" / "summary.json").read_text())
    assert list(again["noc"].values()) == [best["value"]]
    Predictor(checkpoint, str(out / "best.json"))
    mlflow = tracking.client(os.environ["MLFLOW_TRACKING_URI"])
    experiment = mlflow.get_experiment_by_name(tracking.EXPERIMENT)
    assert experiment is not None
    runs = mlflow.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.info.run_name == "sweep cfr"]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == len(settings)
    # Settings end in any order; all except the default have their values as parameters.
    assert sum("refine.cascade.steps" in child.data.params for child in children) == len(settings) - 1
    assert "The price" in (out / "report.html").read_text()
    # The same command again has nothing left to play.
    before = (out / "journal.jsonl").read_text()
    assert sweep_main(few) == 0
    assert (out / "journal.jsonl").read_text() == before
    assert results_of(out)[0]["name"] == best["name"]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_setting_that_dies_is_retried_and_then_reported(ray_cluster: None, checkpoint: Path, tmp_path: Path) -> None:
    from pipeline.data.readers import open_reader
    from pipeline.evaluation.config import EvaluationConfig, EvaluationScaling
    from pipeline.tuning.contest import Contest
    from pipeline.tuning.objective import objective
    from pipeline.tuning.parameters import Choice
    from pipeline.tuning.race import RaceConfig
    from pipeline.tuning.ray_tune import Sweep, sweep
    from pipeline.tuning.search import Grid
    from tests.evaluation.fakes import DyingReader
    from tests.tuning.toy import BASE, identity

    reader = open_reader("scenes", options={"num_images": "6", "height": "64", "width": "64"})
    pieces = [(item, item.object_ids[:1]) for item in reader.items()]
    race, marker = RaceConfig(rungs=(0.5, 1.0)), tmp_path / "died"
    contest = Contest(
        objective=objective("noc80"), race=race, max_clicks=2, ends=race.sizes(len(pieces)), default=identity(BASE, {})
    )
    tries = tmp_path / "tries"

    def prepare(name: str, values: Mapping[str, Any]) -> str:
        if values.get("refine.mask_threshold") == 0.7:
            with tries.open("a") as file:
                file.write("x")
            if len(tries.read_text()) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError("no luck")
        return str(checkpoint)

    ended: dict[str, str] = {}
    refused: list[str] = []
    found = sweep(
        Sweep(
            checkpoint=str(checkpoint),
            # An evaluator is killed too, once; its piece is repeated.
            reader=DyingReader(reader=reader, item_id=reader.items()[2].id, marker=str(marker)),
            config=EvaluationConfig(max_clicks=2, target_iou=0.8, qualities=(0.8,), boundaries=False),
            scaling=EvaluationScaling(actors=2, num_cpus=0.4),
            base=BASE,
            contest=contest,
            search=Grid({"refine.mask_threshold": Choice((0.45, 0.5, 0.7, 0.9))}, 0, 0),
            pieces=pieces,
            name_of=lambda values: identity(BASE, values),
            why_not=lambda values: ["too high"] if values.get("refine.mask_threshold") == 0.9 else [],
            settings={},
            out=str(tmp_path),
            prepare=prepare,
        ),
        lambda entry, error: ended.update({entry.name: entry.status}),
        lambda name, values, why: refused.append(why),
    )
    assert refused == ["too high"]
    broken = identity(BASE, {"refine.mask_threshold": 0.7})
    assert ended[broken] == "failed"
    assert "no luck" in found.entries[broken].reason
    assert tries.read_text() == "xx"
    assert marker.exists()
    assert len(ended) == 4
    assert found.best() is not None
    for name, status in ended.items():
        if status == "played":
            assert sorted(found.entries[name].results) == list(range(len(pieces)))


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(420)
def test_a_killed_sweep_resumes_to_the_same_result(checkpoint: Path, tmp_path: Path) -> None:
    """Kill the whole job (kill -9) in the middle, then run the same command again."""

    def job(out: Path) -> subprocess.Popen[bytes]:
        code = textwrap.dedent("""
            import sys
            from jobs.sweep import main
            sys.exit(main(sys.argv[1:]))
        """)
        command = [sys.executable, "-c", code, *flags(checkpoint, out)]
        return subprocess.Popen(command, start_new_session=True, cwd=Path(__file__).parents[2])

    assert job(tmp_path / "whole").wait() == 0
    broken, journal = job(tmp_path / "broken"), tmp_path / "broken" / "journal.jsonl"
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline and (not journal.exists() or journal.read_text().count("\n") < 20):
        time.sleep(0.02)
    os.killpg(broken.pid, signal.SIGKILL)
    broken.wait()
    assert journal.read_text().count("\n") >= 20
    assert not (tmp_path / "broken" / "sweep.json").exists()
    assert job(tmp_path / "broken").wait() == 0
    assert results_of(tmp_path / "whole") == results_of(tmp_path / "broken")
    assert (tmp_path / "whole" / "best.json").read_text() == (tmp_path / "broken" / "best.json").read_text()
