"""A measure that is registered only here appears wherever results are shown."""

import csv
import json
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs.evaluate import flat_metrics
from models.errors import InputError
from pipeline.evaluation import results
from pipeline.evaluation.compare import compare
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.evaluator import choose_objects, evaluate
from pipeline.evaluation.journal import Journal, PieceResult
from pipeline.evaluation.measures import MEASURES, Measure, of_clicks, per_click
from pipeline.evaluation.method import Method
from pipeline.evaluation.object_row import ObjectRow, column
from pipeline.pages.report_tables import results_table
from pipeline.tuning.objective import objective, score
from tests.evaluation.fakes import answering, no_network
from tests.pipeline.fakes import FakeReader

CONFIG = EvaluationConfig(max_clicks=3, qualities=(0.9,), at_clicks=(1, 2), further_clicks=(1,))
READER = FakeReader(num_items=3, hw=(16, 16))


def size_of(mask: np.ndarray, object_mask: np.ndarray, ignore_mask: np.ndarray) -> float:
    return float(mask.sum()) if mask.any() else float("nan")


def waste(row: ObjectRow, at: float, max_clicks: int) -> float | None:
    return float(len(row.clicks)) if row.object != "c" else None


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    size = per_click("size", "Size", size_of, better="lower", form=".1f", costly=True)
    monkeypatch.setitem(MEASURES, "size", size)
    monkeypatch.setitem(
        MEASURES, "waste", Measure(name="waste", label="waste", key="waste", better="lower", of_object=waste)
    )
    monkeypatch.setitem(
        MEASURES,
        "over",
        Measure(
            name="over",
            label="Over",
            key="over",
            grid="qualities",
            undefined=0.0,
            of_object=lambda row, at, most: float(sum(iou > at for iou in row.ious)) or None,
        ),
    )


def rows(name: str = "standard", side: int = 8) -> list[ObjectRow]:
    """Evaluate every object; the n-th mask has (n - 1) * side pixels."""

    def mask(number: int) -> np.ndarray:
        out = np.zeros((16, 16), bool)
        out[: number - 1, :side] = True
        return out

    method = Method(name=name, step=answering(mask), answer=no_network)
    found = list(evaluate(method, READER, choose_objects(READER.items(), CONFIG), CONFIG, "fake"))
    played = [row for row in found if isinstance(row, ObjectRow)]
    assert len(played) == len(found) > 2
    return played


def test_rows_and_journals_hold_a_new_measure(tmp_path: Path) -> None:
    played = rows()
    assert all(row.measured["size"] == [None, 8.0, 16.0] for row in played)
    journal = Journal(tmp_path / "journal.jsonl", {})
    journal.add(0, 0, PieceResult(rows={"standard": played}, seconds={"standard": 1.0}, refused=[]))
    assert json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[1])["rows"]["standard"][0]["sizes"]
    assert Journal(tmp_path / "journal.jsonl", {}).done[0, 0].rows == {"standard": played}


def test_files_hold_a_new_measure(tmp_path: Path) -> None:
    played = rows()
    results.write(tmp_path, played, [results.summarize(played, CONFIG, 1.0)])
    assert pq.read_table(tmp_path / "objects.parquet")["sizes"].to_pylist() == [[None, 8.0, 16.0]] * len(played)
    assert results.read(tmp_path)[0][0].measured["size"] == [None, 8.0, 16.0]
    with (tmp_path / "objects.csv").open(newline="") as file:
        line = next(csv.DictReader(file))
    assert [line[name] for name in ("size_after_1", "size_after_2", "waste", "over_0.90")] == ["", "8.0", "3.0", ""]
    with (tmp_path / "clicks.csv").open(newline="") as file:
        assert [line["size"] for line in csv.DictReader(file)][:3] == ["", "8.0", "16.0"]


def test_columns_of_the_files_have_unique_names(tmp_path: Path) -> None:
    played = rows()
    results.write(tmp_path, played, [results.summarize(played, CONFIG, 1.0)])
    for name in ("objects.csv", "clicks.csv"):
        with (tmp_path / name).open(newline="") as file:
            head = next(csv.reader(file))
        assert sorted(set(head)) == sorted(head)
    own, measured = {field.name for field in fields(ObjectRow)}, [column(name) for name in of_clicks()]
    assert len(set(measured)) == len(measured)
    assert not own & set(measured)


def test_summaries_tables_and_mlflow_hold_a_new_measure() -> None:
    summary = results.summarize(rows(), CONFIG, 1.0)
    assert (summary["size_at"], summary["waste"], summary["over"]) == ({"1": None, "2": 8.0}, 3.0, {"0.90": 0.0})
    head, line = results.table([summary]).splitlines()
    assert head.split()[-3:] == ["Size&2", "waste", "Over@90"]
    assert line.split()[-3:] == ["8.0", "3.000", "0.000"]
    table = results_table([summary])
    assert table.head[-3:] == ["Size&2", "waste", "Over@90"]
    assert [cell.text for cell in table.groups[0][1][0][-3:]] == ["8.0", "3.000", "0.000"]
    assert flat_metrics(summary) | {"size_at_2": 8.0, "waste": 3.0, "over_90": 0.0} == flat_metrics(summary)


def test_the_page_marks_the_better_of_two() -> None:
    summaries = [results.summarize(rows(name, side), CONFIG, 1.0) for name, side in (("wide", 12), ("narrow", 4))]
    best = {line[0].text: line[-3].best for line in results_table(summaries).groups[0][1]}
    assert best == {"wide": False, "narrow": True}


def test_comparisons_hold_a_new_measure() -> None:
    found = {d.metric: d for d in compare(rows("a", 4), rows("b", 8), at_clicks=(1, 2), qualities=(0.9,), max_clicks=3)}
    assert {"Size&2", "waste", "Over@90"} <= set(found)
    assert "Size&1" not in found
    assert (found["Size&2"].mean_a, found["Size&2"].mean_b, found["Size&2"].better) == (4.0, 8.0, "A")


def test_a_new_measure_is_an_objective_of_sweeps() -> None:
    size, over = objective("size"), objective("over90")
    assert (size.label, size.costly, size.high_is_good) == ("Size", True, False)
    assert (over.label, over.quality, over.high_is_good) == ("Over@90", 0.9, True)
    assert score(size, rows(), 3, [0.0] * len(rows())) == 16.0
    with pytest.raises(InputError, match="objective waste: c has no value, and lower is better"):
        score(objective("waste"), rows(), 3, [0.0] * len(rows()))
    with pytest.raises(InputError, match="unknown objective"):
        objective("over")


def test_a_costly_new_measure_is_skipped_without_boundaries() -> None:
    method = Method(name="cheap", step=answering(lambda number: np.ones((16, 16), bool)), answer=no_network)
    config = EvaluationConfig(**{**asdict(CONFIG), "realistic": CONFIG.realistic, "boundaries": False})
    (first, *_) = evaluate(method, READER, choose_objects(READER.items(), config), config, "fake")
    assert isinstance(first, ObjectRow)
    assert set(first.measured["size"]) == {None}
