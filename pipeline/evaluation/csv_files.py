"""An evaluation's rows for spreadsheets: a line per object, and a line per click."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.files import write
from pipeline import metrics

if TYPE_CHECKING:
    from pipeline.evaluation.results import ObjectRow

IDS = ("dataset", "refinement", "policy", "item", "object")


def write_objects(path: Path, rows: Sequence["ObjectRow"], summaries: Sequence[Mapping[str, Any]]) -> None:
    """Write a line per object, for the numbers of clicks and the qualities that the summaries give.

    `iou_after_K`, `biou_after_K`, `assd_after_K`: after K clicks, or at the end of a session that was shorter;
    `iou_last`; `clicks_to_Q`: clicks to IoU Q, empty if it was never reached; `num_honoured`: clicks that left the mask
    with their sign at their pixel. Empty is what was not measured.
    """
    ks = list(dict.fromkeys(k for summary in summaries for k in summary["iou_at"]))
    qualities = list(dict.fromkeys(q for summary in summaries for q in summary["noc"]))
    most = max((summary["max_clicks"] for summary in summaries), default=0)
    head = [*IDS, "category", "num_clicks", "num_honoured"]
    head += [f"{name}_after_{k}" for name in ("iou", "biou", "assd") for k in ks]
    head += ["iou_last", *(f"clicks_to_{q}" for q in qualities)]

    def lines() -> Iterable[list[str]]:
        for row in rows:
            line = [*_ids(row), row.category, str(len(row.ious)), str(row.num_honoured)]
            for values in (row.ious, row.bious, row.assds):
                line += [_number(values[min(int(k), len(values)) - 1] if values else None) for k in ks]
            reached = [metrics.reaches(row.ious, float(q), most) for q in qualities]
            yield [*line, _number(row.ious[-1]), *(str(clicks or "") for clicks in reached)]

    _write(path, head, lines())


def write_clicks(path: Path, rows: Sequence["ObjectRow"]) -> None:
    """Write a line per click: its number (from 1), row y and column x in pixels, its sign, what was measured after it.

    Clicks that were given before the session began have no measures.
    """

    def lines() -> Iterable[list[str]]:
        for row in rows:
            num_given = len(row.clicks) - len(row.ious)
            for number, (y, x, positive) in enumerate(row.clicks):
                n = number - num_given
                measured = [_number(v[n] if 0 <= n < len(v) else None) for v in (row.ious, row.bious, row.assds)]
                yield [*_ids(row), str(number + 1), str(y), str(x), str(int(positive)), *measured]

    _write(path, [*IDS, "click", "y", "x", "positive", "iou", "biou", "assd"], lines())


def _ids(row: "ObjectRow") -> list[str]:
    return [getattr(row, name) for name in IDS]


def _number(value: float | None) -> str:
    return "" if value is None else str(np.float32(value))  # the digits that objects.parquet holds


def _write(path: Path, head: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(head)
    writer.writerows(lines)
    write(path, text.getvalue())
