import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.progress import EmptySamples, followed, starving, text
from pipeline.data.config import DataConfig
from pipeline.training.history import read_history

ROOT = Path(__file__).parents[2]


def entry(step: int, loss: float = 1.0) -> dict[str, float]:
    metrics = {
        "loss": loss,
        "lr": 1e-4,
        "images_per_second": 4.0,
        "seconds_per_step": 2.0,
        "data_wait": 0.15,
        "iou": 0.5,
    }
    return {"step": step, **metrics}


def test_only_new_lines_of_a_history_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = tmp_path / "history.jsonl"
    history.write_text(json.dumps(entry(1)) + "\n")
    with followed(history, 100), history.open("a") as file:
        file.write(json.dumps(entry(10)) + "\n" + json.dumps(entry(20))[:9])
    (line,) = capsys.readouterr().out.splitlines()
    assert line == text(entry(10), 100)
    assert line == "step 10/100  loss 1.000  IoU 0.500  lr 1.0e-04  4.0 images/s  waiting for data 15%  3 min 00 s left"


def test_repeated_steps_count_once(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    assert read_history(history) == []
    entries = [entry(1), entry(2), entry(3, loss=9.0), entry(3, loss=3.0), entry(4)]
    history.write_text("".join(json.dumps(e) + "\n" for e in entries))
    assert [(e["step"], e["loss"]) for e in read_history(history)] == [(1, 1.0), (2, 1.0), (3, 3.0), (4, 1.0)]


def test_an_incomplete_line_of_a_killed_worker_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = tmp_path / "history.jsonl"
    assert read_history(history) == []
    history.write_text("")
    with followed(history, 9), history.open("a") as file:
        file.write("\n".join([json.dumps(entry(1)), json.dumps(entry(2))[:20], json.dumps(entry(3)), "{"]))
    assert capsys.readouterr().out.splitlines() == [text(entry(1), 9), text(entry(3), 9)]
    assert [found["step"] for found in read_history(history)] == [1, 3]


def test_training_that_waits_for_data_says_what_to_raise() -> None:
    entry = {"data_wait": 0.5}
    advice = starving(entry, first=False)
    assert advice is not None
    assert "50%" in advice
    assert "--scaling.data-actors" in advice
    assert starving(entry, first=True) is None
    assert starving({"data_wait": 0.1}, first=False) is None


def test_empty_samples_are_reported_once_enough_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = tmp_path / "history.jsonl"
    history.write_text("")
    empty = EmptySamples(DataConfig(min_object_area=300))
    shares = (0.0, 0.5, 0.5, 0.5, 0.9)
    with followed(history, 99, empty), history.open("a") as file:
        for step, share in enumerate(shares, start=1):
            file.write(json.dumps({**entry(step), "samples": 32, "without_object": share}) + "\n")
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "without object" not in line and not line.startswith("warning")] == lines[:1]
    assert "IoU 0.500  without object 50%  lr" in lines[1]
    # 25 % after two entries of 32.
    assert lines[2].startswith("warning: 25% of the samples show no object, and 5% are expected: objects of fewer than")
    assert "300 pixels" in lines[2]
    assert sum(line.startswith("warning") for line in lines) == 1
    assert empty.advice(160, 150) is None


def test_the_expected_share_of_empty_samples_is_not_reported() -> None:
    data = DataConfig(keep_background_prob=0.2)
    assert EmptySamples(data).count(640, 0.6 * 640) is None
    assert EmptySamples(data).count(640, 0.7 * 640) is not None
    assert EmptySamples(data).count(63, 63) is None
    assert EmptySamples(data).advice(8, 8) is not None


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_training_that_is_interrupted_says_so(tmp_path: Path) -> None:
    """Ray Train handles Ctrl-C itself and would end the job silently."""
    argv = ["jobs.train", "demo", "--ray", "local", "--training.log-every", "1", "--out", str(tmp_path / "run")]
    environ = os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    with subprocess.Popen(
        [sys.executable, "-m", *argv], cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as job:
        assert job.stdout is not None
        assert any(line.startswith("step ") for line in job.stdout)
        job.send_signal(signal.SIGINT)
        _, error = job.communicate(timeout=120)
    assert job.returncode == 130
    assert error.splitlines()[-1] == "interrupted"
