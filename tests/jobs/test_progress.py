import json
from pathlib import Path

import pytest

from jobs.progress import followed, read_history, starving, text


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


def test_a_run_is_followed_from_where_its_history_stood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = tmp_path / "history.jsonl"
    history.write_text(json.dumps(entry(1)) + "\n")
    with followed(history, 100), history.open("a") as file:
        file.write(json.dumps(entry(10)) + "\n" + json.dumps(entry(20))[:9])
    (line,) = capsys.readouterr().out.splitlines()
    assert line == text(entry(10), 100)
    assert line == "step 10/100  loss 1.000  IoU 0.500  lr 1.0e-04  4.0 images/s  waiting for data 15%  3 min 00 s left"


def test_steps_that_were_made_again_count_once(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    assert read_history(history) == []
    entries = [entry(1), entry(2), entry(3, loss=9.0), entry(3, loss=3.0), entry(4)]
    history.write_text("".join(json.dumps(e) + "\n" for e in entries))
    assert [(e["step"], e["loss"]) for e in read_history(history)] == [(1, 1.0), (2, 1.0), (3, 3.0), (4, 1.0)]


def test_half_a_line_of_a_killed_worker_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
