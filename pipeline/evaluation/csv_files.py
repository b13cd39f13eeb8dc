"""Write an evaluation's rows for spreadsheets: a line per object, and a line per click."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.files import write
from pipeline.evaluation.measures import of_clicks, of_objects
from pipeline.evaluation.object_row import ObjectRow

IDS = ("dataset", "refinement", "policy", "item", "object")


def write_objects(path: Path, rows: Sequence[ObjectRow], summaries: Sequence[Mapping[str, Any]]) -> None:
    """Write a line per object, with columns for the numbers of clicks and the qualities in the summaries.

    `NAME_after_K`: a measure of masks after K clicks, or at the end of a shorter session. `iou_last`: the last IoU.
    `clicks_to_Q`: clicks to IoU Q, empty if it was never reached. `num_honoured`: clicks after which the mask had their
    sign at their pixel. Cells of values that were not measured are empty.
    """
    most = max((summary["max_clicks"] for summary in summaries), default=0)
    of_masks, of_sessions = [], []
    for measure in of_objects():
        grid = dict.fromkeys(at for summary in summaries for at in measure.read(summary))
        (of_masks if measure.of_mask else of_sessions).extend((measure, at) for at in grid)
    head = [*IDS, "category", "num_clicks", "num_honoured", *(measure.column_of(at) for measure, at in of_masks)]
    head += ["iou_last", *(measure.column_of(at) for measure, at in of_sessions)]

    def lines() -> Iterable[list[str]]:
        for row in rows:
            masks, sessions = (
                [_number(measure.of_object(row, float(at or 0), most)) for measure, at in measures]
                for measures in (of_masks, of_sessions)
            )
            counts = [str(len(row.ious)), str(row.num_honoured)]
            yield [*_ids(row), row.category, *counts, *masks, _number(row.ious[-1]), *sessions]

    _write(path, head, lines())


def write_clicks(path: Path, rows: Sequence[ObjectRow]) -> None:
    """Write a line per click: number (from 1), row y and column x in pixels, sign, and the measures after it.

    Clicks that were given before the session began have no measures.
    """
    names = list(of_clicks())

    def lines() -> Iterable[list[str]]:
        for row in rows:
            values = [row.values(name) for name in names]
            num_given = len(row.clicks) - len(row.ious)
            for number, (y, x, positive) in enumerate(row.clicks):
                n = number - num_given
                measured = [_number(v[n] if 0 <= n < len(v) else None) for v in values]
                yield [*_ids(row), str(number + 1), str(y), str(x), str(int(positive)), *measured]

    _write(path, [*IDS, "click", "y", "x", "positive", *names], lines())


def _ids(row: ObjectRow) -> list[str]:
    return [getattr(row, name) for name in IDS]


def _number(value: float | None) -> str:
    if value is None or isinstance(value, int):
        return "" if value is None else str(value)
    return str(np.float32(value))  # as many digits as in objects.parquet


def _write(path: Path, head: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(head)
    writer.writerows(lines)
    write(path, text.getvalue())
