import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.results import read, summarize, table, write
from tests.evaluation.fakes import row

CONFIG = EvaluationConfig(max_clicks=5, target_iou=0.9, qualities=(0.5, 0.9), at_clicks=(1, 3))
ROWS = [row("i0/0", [0.4, 0.92]), row("i0/1", [0.1, 0.2, 0.3, 0.4, 0.45]), row("i1/0", [0.95])]


def test_a_summary_holds_the_protocols_figures() -> None:
    summary = summarize(ROWS, CONFIG, seconds=4.0)
    assert summary["noc"] == {"0.50": pytest.approx((2 + 5 + 1) / 3), "0.90": pytest.approx((2 + 5 + 1) / 3)}
    assert summary["nof"] == {"0.50": 1, "0.90": 1}
    assert summary["num_at_max"] == {"0.50": 1, "0.90": 1}
    assert summary["iou_at"] == pytest.approx({"1": (0.4 + 0.1 + 0.95) / 3, "3": (0.92 + 0.3 + 0.95) / 3})
    assert (summary["objects"], summary["clicks"], summary["max_clicks"]) == (3, 8, 5)
    assert summary["seconds_per_click"] == 0.5
    assert (summary["dataset"], summary["refinement"], summary["policy"]) == ("scenes", "standard", "oracle")


def test_rows_and_summaries_come_back_from_disk(tmp_path: Path) -> None:
    summaries = [summarize(ROWS, CONFIG, 4.0)]
    write(tmp_path / "new" / "folder", ROWS, summaries)
    rows, read_summaries = read(tmp_path / "new" / "folder")
    assert rows == ROWS
    assert read_summaries == summaries
    assert json.loads((tmp_path / "new" / "folder" / "summary.json").read_text())[0]["nof"]["0.90"] == 1
    schema = pq.read_schema(tmp_path / "new" / "folder" / "objects.parquet")
    assert {"object", "clicks", "ious"} <= set(schema.names)


def test_reading_where_nothing_was_written_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"summary\.json"):
        read(tmp_path)


def test_the_table_has_a_line_a_summary() -> None:
    first = summarize(ROWS, CONFIG, 4.0)
    lines = table([first, {**first, "refinement": "cfr_1", "predictor": "trained, "}]).splitlines()
    assert lines[0].split() == [
        "data",
        "predictor",
        "objects",
        "IoU&1",
        "IoU&3",
        "NoC@50",
        "NoC@90",
        "NoF@90",
        "s/click",
    ]
    assert lines[1].split() == ["scenes", "standard", "3", "0.483", "0.723", "2.67", "2.67", "1", "0.50"]
    assert lines[2].startswith("scenes  trained, cfr_1")
    assert len({len(line) for line in lines}) == 1
