"""The page about an evaluation: tables, curves, histograms, and pictures of the best, median and worst objects."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import InputError
from pipeline import metrics
from pipeline.data.sample import Reader
from pipeline.drawing.fonts import labels
from pipeline.evaluation.object_row import Key, ObjectRow, by_key
from pipeline.evaluation.results import key_of, predictors
from pipeline.pages import report_figures as figures
from pipeline.pages import report_tables as tables
from pipeline.pages.page import LEGEND, Picture, render, session_picture


def write_report(
    path: Path,
    *,
    title: str,
    subtitle: str,
    rows: Sequence[ObjectRow],
    summaries: Sequence[dict[str, Any]],
    readers: Mapping[str, Reader],
    shown: Key,
    num_overlays: int = 4,
    history: Sequence[Mapping[str, float]] = (),
    notes: Sequence[str] = (),
) -> None:
    """Write one self-contained HTML file about the summaries' data sets, refinements and robot users.

    `shown` (data set, refinement, robot user) selects the results whose pictures and classes are shown; `readers`, by
    name of the data set, provide the images. `history`: a training run's metrics by step. `notes`: texts at the top of
    the page. Raises InputError if a summary or `shown` has no rows.
    """
    groups = by_key(rows)
    for key in (shown, *map(key_of, summaries)):
        if key not in groups:
            raise InputError(f"no rows of {', '.join(key)}: there are rows of {'; '.join(map(', '.join, groups))}")
    names, styles = predictors(summaries), figures.styles(summaries)
    charts, histograms, prices = [], [], []
    for dataset in dict.fromkeys(s["dataset"] for s in summaries):
        part = [s for s in summaries if s["dataset"] == dataset]
        most, best = max(s["max_clicks"] for s in part), max(float(q) for s in part for q in s["noc"])
        shown_names, legend = labels([names[key] for key in map(key_of, part)])
        named = {name: (styles[key], groups[key]) for name, key in zip(shown_names, map(key_of, part), strict=True)}
        charts.append(Picture(src=figures.clicks_figure(named, most), caption=dataset, key=legend))
        text = f"{dataset}, IoU {best:.2f}" + (
            "" if len(named) <= figures.MAX_PANELS else f", the first {figures.MAX_PANELS}"
        )
        histograms.append(Picture(src=figures.histogram_figure(named, best, most), caption=text, key=legend))
        paid = {
            name: (styles[key_of(s)], 1000 * s["seconds_per_click"], s["noc"][f"{best:.2f}"])
            for name, s in zip(shown_names, part, strict=True)
            if s["seconds_per_click"] > 0
        }
        if len(paid) > 1:
            prices.append(Picture(src=figures.price_figure(paid, best), caption=dataset, key=legend))
    classes = [
        (s["dataset"], table)
        for s in tables.shown_in_each(summaries, shown)
        if (table := tables.classes_table(groups[key_of(s)], s)) is not None
    ]
    max_clicks = max(s["max_clicks"] for s in summaries)
    render(
        path,
        "report.html.j2",
        title=title,
        subtitle=subtitle,
        notes=notes,
        shown=", ".join(shown),
        shown_predictor=", ".join(shown[1:]),
        max_clicks=max_clicks,
        results=tables.results_table(summaries),
        failures=tables.failures_table(summaries),
        counts=tables.counts_table(rows, summaries),
        charts=charts,
        histograms=histograms,
        prices=prices,
        classes=classes,
        rare=tables.MIN_OBJECTS_OF_A_CLASS,
        loss=figures.loss_figure(history) if history else "",
        legend=LEGEND,
        sections=_sections(groups[shown], readers.get(shown[0]), num_overlays, max_clicks),
    )


def _sections(
    rows: Sequence[ObjectRow], reader: Reader | None, num: int, max_clicks: int
) -> list[tuple[str, list[Picture]]]:
    """Draw the best, the median and the worst objects by mean IoU over clicks, without repeating any."""
    if reader is None or num < 1:
        return []
    ranked = sorted(rows, key=lambda row: -float(np.mean(metrics.padded(row.ious, max_clicks))))
    if len(ranked) <= num or len(ranked) < 3:
        parts = {"All objects, best first": ranked}
    else:
        num = min(num, len(ranked) // 3)
        middle = (len(ranked) - num) // 2
        parts = {"Best": ranked[:num], "Median": ranked[middle : middle + num], "Worst": ranked[-num:]}
    items = {item.id: item for item in reader.items()}
    return [
        (name, [session_picture(row, items, reader, _caption(row)) for row in part]) for name, part in parts.items()
    ]


def _caption(row: ObjectRow) -> str:
    category = f" ({row.category})" if row.category else ""
    first = f"IoU {row.ious[0]:.2f} after 1 click"
    return f"{row.object}{category}: {first}" + (f", {row.ious[-1]:.2f} after {len(row.ious)}" if row.ious[1:] else "")
