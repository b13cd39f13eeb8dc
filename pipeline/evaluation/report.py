"""The page about an evaluation: tables, curves, clicks needed, overlays of the best, median and worst objects."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from models import rle
from models.interaction import Clicks
from pipeline.data.sample import BadItem, Reader
from pipeline.evaluation.charts import click_histogram, iou_curve, loss_curve
from pipeline.evaluation.overlays import overlay
from pipeline.evaluation.report_tables import class_table, counts_table, results_table
from pipeline.evaluation.results import ObjectRow

TEMPLATE = Path(__file__).with_name("report.html.j2")


def write_report(
    path: Path,
    *,
    title: str,
    subtitle: str,
    rows: Sequence[ObjectRow],
    summaries: Sequence[dict[str, Any]],
    readers: Mapping[str, Reader],
    shown: tuple[str, str, str],
    num_overlays: int = 4,
    history: Sequence[Mapping[str, float]] = (),
) -> None:
    """Write one self-contained HTML file.

    `rows` of all evaluations, told apart by (dataset, refinement, policy), each with its summary; `readers` by data
    set, for the pictures; the overlays and the classes are those of `shown`, ordered by mean IoU over clicks; `history`
    is a training run's metrics by step.
    """
    import jinja2

    max_clicks = max(s["max_clicks"] for s in summaries)
    quality = float(list(summaries[0]["noc"])[-1])
    figures = []
    for place, groups in _groups(rows, summaries).items():
        figures.append({"title": f"IoU over clicks: {place}", "src": iou_curve(groups, max_clicks)})
        figures.append({"title": f"Clicks needed: {place}", "src": click_histogram(groups, quality, max_clicks)})
    of_shown = [row for row in rows if (row.dataset, row.refinement, row.policy) == shown]
    tables = [results_table(summaries), counts_table(summaries), class_table(of_shown, quality, max_clicks)]
    page = (
        jinja2.Environment(autoescape=True)
        .from_string(TEMPLATE.read_text())
        .render(
            title=title,
            subtitle=subtitle,
            tables=[table for table in tables if table is not None],
            figures=figures,
            loss=loss_curve(history) if history else "",
            sections=_sections(of_shown, readers[shown[0]], shown[1], num_overlays, max_clicks),
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page)


def _groups(rows: Sequence[ObjectRow], summaries: Sequence[dict[str, Any]]) -> dict[str, dict[str, list[ObjectRow]]]:
    """Rows by place (data set, and robot user where there are several) and by predictor, as the legends say."""
    several = len({s["policy"] for s in summaries}) > 1
    by_key: dict[tuple[str, str, str], list[ObjectRow]] = {}
    for row in rows:
        by_key.setdefault((row.dataset, row.refinement, row.policy), []).append(row)
    places: dict[str, dict[str, list[ObjectRow]]] = {}
    for s in summaries:
        place = f"{s['dataset']}, {s['policy']}" if several else s["dataset"]
        group = by_key[s["dataset"], s["refinement"], s["policy"]]
        places.setdefault(place, {})[s["refinement"]] = group
    return places


def _sections(rows: Sequence[ObjectRow], reader: Reader, shown: str, num: int, max_clicks: int) -> list[dict[str, Any]]:
    ranked = sorted(rows, key=lambda row: -float(np.mean(row.ious + [row.ious[-1]] * (max_clicks - len(row.ious)))))
    num = min(num, len(ranked))
    middle = max(0, (len(ranked) - num) // 2)
    items = {item.id: item for item in reader.items()}
    groups = {"Best": ranked[:num], "Median": ranked[middle : middle + num], "Worst": ranked[-num:]}
    sections = []
    for name, group in groups.items():
        figures = []
        for row in group:
            try:
                sample = reader.load(items[row.item])
            except BadItem as error:
                figures.append({"src": "", "caption": str(error)})
                continue
            truth = next((sample.object_mask(ref) for ref in sample.objects if ref.id == row.object), None)
            mask = rle.decode({"size": [row.height, row.width], "counts": row.mask})
            picture = overlay(sample.image, mask, truth, Clicks.of(row.clicks))
            caption = f"{row.object}: IoU {row.ious[0]:.2f} after 1 click, {row.ious[-1]:.2f} after {len(row.ious)}"
            figures.append({"src": _jpeg(picture), "caption": caption})
        text = (
            f"{shown}: tinted the final mask, outlined the truth, numbered the clicks (green on the object, red off)."
        )
        sections.append({"title": name, "text": text, "figures": figures})
    return sections


def _jpeg(picture: np.ndarray) -> str:
    ok, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert ok
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
