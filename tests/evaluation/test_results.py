import csv
import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.object_row import by_key
from pipeline.evaluation.results import predictors, read, summarize, table, write
from tests.evaluation.fakes import row, with_measured

CONFIG = EvaluationConfig(max_clicks=5, target_iou=0.9, qualities=(0.5, 0.9), at_clicks=(1, 3), further_clicks=(1, 4))
ROWS = [row("i0/0", [0.4, 0.92]), row("i0/1", [0.1, 0.2, 0.3, 0.4, 0.45]), row("i1/0", [0.95])]


def test_a_summary_holds_the_measures_of_the_protocol() -> None:
    summary = summarize(ROWS, CONFIG, seconds=4.0)
    assert summary["noc"] == {"0.50": pytest.approx((2 + 5 + 1) / 3), "0.90": pytest.approx((2 + 5 + 1) / 3)}
    assert summary["nof"] == {"0.50": 1, "0.90": 1}
    assert summary["num_at_max"] == {"0.50": 1, "0.90": 1}
    assert summary["nofi"] == {"0.50": 1, "0.90": 1}
    assert summary["miou_after"] == pytest.approx({"1": (0.4 + 0.1 + 0.95) / 3, "4": (0.92 + 0.4 + 0.95) / 3})
    assert summary["iou_at"] == pytest.approx({"1": (0.4 + 0.1 + 0.95) / 3, "3": (0.92 + 0.3 + 0.95) / 3})
    assert (summary["objects"], summary["clicks"], summary["max_clicks"]) == (3, 8, 5)
    assert summary["seconds_per_click"] == 0.5
    assert (summary["dataset"], summary["refinement"], summary["policy"]) == ("scenes", "standard", "oracle")


def test_rows_and_summaries_survive_writing_and_reading(tmp_path: Path) -> None:
    summaries = [summarize(ROWS, CONFIG, 4.0)]
    write(tmp_path / "new" / "folder", ROWS, summaries)
    rows, read_summaries = read(tmp_path / "new" / "folder")
    assert rows == ROWS
    assert read_summaries == summaries
    assert json.loads((tmp_path / "new" / "folder" / "summary.json").read_text())[0]["nof"]["0.90"] == 1
    schema = pq.read_schema(tmp_path / "new" / "folder" / "objects.parquet")
    assert {"object", "clicks", "ious"} <= set(schema.names)


def test_a_summary_has_fixed_keys_and_null_for_missing_measures(tmp_path: Path) -> None:
    summary = summarize(ROWS, CONFIG, 4.0)
    assert list(summary) == [
        *("dataset", "refinement", "policy", "objects", "max_clicks", "iou_at", "noc", "nof", "num_at_max", "nofi"),
        *("miou_after", "biou_at", "assd_at", "honoured", "seconds_per_click", "counts", "seconds", "clicks"),
    ]
    assert summary["biou_at"] == summary["assd_at"] == {"1": None, "3": None}
    write(tmp_path, ROWS, [summary])
    assert '"1": null' in (tmp_path / "summary.json").read_text()


def test_border_measures_are_averaged_and_survive_writing_and_reading(tmp_path: Path) -> None:
    rows = [
        with_measured(ROWS[0], biou=[0.25, 0.5], assd=[4.0, 2.0]),
        with_measured(ROWS[1], biou=[0.75, None, 0.25, None, 0.5], assd=[8.0, None, 6.0, None, 1.0]),
    ]
    summary = summarize(rows, CONFIG, 4.0)
    assert summary["biou_at"] == {"1": 0.5, "3": 0.375}
    assert summary["assd_at"] == {"1": 6.0, "3": 4.0}
    write(tmp_path, rows, [summary])
    assert read(tmp_path) == (rows, [summary])


def test_rows_written_before_borders_were_measured_can_be_read(tmp_path: Path) -> None:
    write(tmp_path, ROWS, [summarize(ROWS, CONFIG, 4.0)])
    path = tmp_path / "objects.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["bious", "assds"]), path)
    assert read(tmp_path)[0] == ROWS


def test_titles_name_a_maximum_above_twenty_clicks() -> None:
    lines = table([summarize(ROWS, replace(CONFIG, max_clicks=100), 4.0)]).splitlines()
    assert {"NoC100@50", "NoC100@90", "NoF100@90"} <= set(lines[0].split())


def test_reading_missing_results_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"summary\.json"):
        read(tmp_path)


def test_the_table_has_a_line_per_summary() -> None:
    first = summarize(ROWS, CONFIG, 4.0)
    lines = table([first, {**first, "refinement": "cfr_1"}]).splitlines()
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
    assert lines[2].startswith("scenes  cfr_1 ")
    assert len({len(line) for line in lines}) == 1


def test_robot_users_are_named_if_there_are_several() -> None:
    first = summarize(ROWS, CONFIG, 4.0)
    both = [first, {**first, "policy": "dios_random"}]
    assert predictors([first]) == {("scenes", "standard", "oracle"): "standard"}
    assert list(predictors(both).values()) == ["standard, oracle", "standard, dios_random"]
    assert "standard, dios_random" in table(both)


def test_rows_are_grouped_by_data_set_refinement_and_robot_user() -> None:
    other = row("i0/0", [0.3], policy="dios_random")
    groups = by_key([ROWS[0], other, *ROWS[1:]])
    assert groups == {("scenes", "standard", "oracle"): ROWS, ("scenes", "standard", "dios_random"): [other]}


def test_the_csv_files_hold_the_values_of_the_rows(tmp_path: Path) -> None:
    rows = [
        with_measured(
            replace(ROWS[0], object='i0, "the 1st"', category="cup", num_honoured=2), biou=[0.25, 0.5], assd=[4.0, 2.0]
        ),
        with_measured(ROWS[1], biou=[0.75, None, 0.25, None, 0.5], assd=[8.0, None, None, None, 1.0]),
        ROWS[2],
    ]
    write(tmp_path, rows, [summarize(rows, CONFIG, 4.0)])
    with (tmp_path / "objects.csv").open(newline="") as file:
        first, second, third = csv.DictReader(file)
    assert first == {
        **{"dataset": "scenes", "refinement": "standard", "policy": "oracle", "item": "i0"},
        **{"object": 'i0, "the 1st"', "category": "cup", "num_clicks": "2", "num_honoured": "2"},
        **{"iou_after_1": "0.4", "iou_after_3": "0.92", "biou_after_1": "0.25", "biou_after_3": "0.5"},
        **{"assd_after_1": "4.0", "assd_after_3": "2.0", "iou_last": "0.92"},
        **{"clicks_to_0.50": "2", "clicks_to_0.90": "2"},
    }
    assert (second["iou_after_3"], second["assd_after_3"], second["iou_last"]) == ("0.3", "", "0.45")
    assert (second["clicks_to_0.50"], third["clicks_to_0.50"], third["biou_after_1"]) == ("", "1", "")
    with (tmp_path / "clicks.csv").open(newline="") as file:
        clicks = list(csv.DictReader(file))
    assert [(c["object"], c["click"]) for c in clicks[:3]] == [
        ('i0, "the 1st"', "1"),
        ('i0, "the 1st"', "2"),
        ("i0/1", "1"),
    ]
    assert len(clicks) == 8
    assert [clicks[1][name] for name in ("y", "x", "positive", "iou", "biou", "assd")] == [
        *("4.0", "5.5", "0", "0.92", "0.5", "2.0")
    ]
    assert [(c["iou"], c["biou"]) for c in clicks[2:5]] == [("0.1", "0.75"), ("0.2", ""), ("0.3", "0.25")]


def test_clicks_given_before_the_session_have_no_measures(tmp_path: Path) -> None:
    rows = [replace(ROWS[0], clicks=[(1.0, 2.0, True), *ROWS[0].clicks])]
    write(tmp_path, rows, [summarize(rows, CONFIG, 4.0)])
    with (tmp_path / "clicks.csv").open(newline="") as file:
        assert [(c["y"], c["iou"]) for c in csv.DictReader(file)] == [("1.0", ""), ("4.0", "0.4"), ("4.0", "0.92")]
