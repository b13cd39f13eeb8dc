import json
from pathlib import Path

import pytest

from jobs.progress import followed, read_history

ENTRY = {"loss": 0.5, "lr": 1e-3, "images_per_second": 4.0, "data_wait": 0.1, "seconds_per_step": 2.0}


def line(step: int) -> str:
    return json.dumps({"step": step, **ENTRY})


def test_the_later_entry_of_a_step_counts_and_half_a_line_is_none(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    assert read_history(history) == []
    history.write_text("\n".join([line(1), line(2), line(3)[:-9], line(2).replace("0.5", "0.25"), line(4)[:11]]))
    assert [(entry["step"], entry["loss"]) for entry in read_history(history)] == [(1, 0.5), (2, 0.25)]


def test_only_what_is_new_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = tmp_path / "history.jsonl"
    history.write_text(line(1) + "\n")
    with followed(history, 9), history.open("a") as file:
        file.write(line(2)[:20] + "\n" + line(3) + "\n" + line(4)[:20])
    assert capsys.readouterr().out.splitlines() == [
        "step 3/9  loss 0.500  lr 1.0e-03  4.0 images/s  waiting for data 10%  0 min 12 s left"
    ]
