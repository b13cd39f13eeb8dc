"""The page about an evaluation: table, IoU-NoC curve, overlays of the best, the median and the worst objects."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from models import rle
from models.interaction import Clicks
from pipeline.data.sample import BadItem, Reader
from pipeline.evaluation.overlays import overlay
from pipeline.evaluation.results import ObjectRow

COLOURS = ("#1f6fd6", "#d1495b", "#2a9d5c", "#8d5fd3", "#e08a1e", "#4a5568")

TEMPLATE = Path(__file__).with_name("report.html.j2")


def write_report(
    path: Path,
    *,
    title: str,
    subtitle: str,
    rows: Mapping[str, Sequence[ObjectRow]],
    summaries: Sequence[dict[str, Any]],
    reader: Reader,
    shown: str,
    num_overlays: int = 4,
    history: Sequence[Mapping[str, float]] = (),
) -> None:
    """Write one self-contained HTML file.

    `rows` by the name that the curve's legend shows; the overlays are those of `rows[shown]`, ordered by mean IoU over
    clicks; `history` is a training run's metrics by step.
    """
    import jinja2

    max_clicks = max(s["max_clicks"] for s in summaries)
    environment = jinja2.Environment(autoescape=True)
    head, lines = _table(summaries)
    page = environment.from_string(TEMPLATE.read_text()).render(
        title=title,
        subtitle=subtitle,
        head=head,
        lines=lines,
        curve=_curve(rows, max_clicks),
        loss=_loss(history) if history else "",
        sections=_sections(rows[shown], reader, shown, num_overlays, max_clicks),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page)


def _table(summaries: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[tuple[str, bool]]]]:
    ks, qualities = list(summaries[0]["iou_at"]), list(summaries[0]["noc"])
    last = qualities[-1]
    names = [f"NoC@{round(float(q) * 100)}" for q in qualities]
    head = ["data", "predictor", "objects", *(f"IoU&{k}" for k in ks), *names, f"NoF@{round(float(last) * 100)}"]
    head.append("s / click")

    def best(s: dict[str, Any], group: str, key: str, high: bool) -> bool:
        values = [other[group][key] for other in summaries if other["dataset"] == s["dataset"]]
        return len(values) > 1 and s[group][key] == (max(values) if high else min(values))

    lines = [
        [(s["dataset"], False), (s.get("predictor", "") + s["refinement"], False), (str(s["objects"]), False)]
        + [(f"{s['iou_at'][k]:.3f}", best(s, "iou_at", k, True)) for k in ks]
        + [(f"{s['noc'][q]:.2f}", best(s, "noc", q, False)) for q in qualities]
        + [(str(s["nof"][last]), best(s, "nof", last, False)), (f"{s['seconds_per_click']:.2f}", False)]
        for s in summaries
    ]
    return head, lines


def _curve(rows: Mapping[str, Sequence[ObjectRow]], max_clicks: int) -> str:
    figure, axes = _figure()
    for (name, group), colour in zip(rows.items(), COLOURS * 10, strict=False):
        padded = np.array([row.ious + [row.ious[-1]] * (max_clicks - len(row.ious)) for row in group])
        clicks = np.arange(1, max_clicks + 1)
        axes.plot(clicks, padded.mean(0), marker="o", markersize=4, color=colour, label=name)
    axes.set(xlabel="clicks", ylabel="mean IoU", ylim=(0, 1), xlim=(0.7, max_clicks + 0.3))
    axes.set_xticks(np.unique(np.linspace(1, max_clicks, min(max_clicks, 10)).round().astype(int)))
    axes.legend(frameon=False, loc="lower right")
    return _png(figure)


def _loss(history: Sequence[Mapping[str, float]]) -> str:
    figure, axes = _figure()
    steps = [h["step"] for h in history]
    axes.plot(steps, [h["loss"] for h in history], color=COLOURS[0])
    axes.set(xlabel="step", ylabel="iterative click loss", ylim=(0, None))
    return _png(figure)


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # not pyplot: no global state, no display

    figure = Figure(figsize=(8, 4.2), dpi=110, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e3e6ea")
    return figure, axes


def _png(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


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
