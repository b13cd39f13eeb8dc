"""Pictures of an evaluation: IoU over clicks, clicks needed, a training run's loss. PNG as data URIs."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline import metrics
from pipeline.evaluation.results import ObjectRow

COLOURS = ("#1f6fd6", "#d1495b", "#2a9d5c", "#8d5fd3", "#e08a1e", "#4a5568", "#0f8b8d", "#b5179e")


def iou_curve(rows: Mapping[str, Sequence[ObjectRow]], max_clicks: int) -> str:
    """Mean IoU after each click, a line for each name; a session that ended keeps its last IoU."""
    figure, axes = _figure()
    for (name, group), colour in zip(rows.items(), COLOURS * 10, strict=False):
        padded = np.array([row.ious + [row.ious[-1]] * (max_clicks - len(row.ious)) for row in group])
        clicks = np.arange(1, max_clicks + 1)
        axes.plot(clicks, padded.mean(0), marker="o", markersize=4, color=colour, label=name)
    axes.set(xlabel="clicks", ylabel="mean IoU", ylim=(0, 1), xlim=(0.7, max_clicks + 0.3))
    axes.set_xticks(np.unique(np.linspace(1, max_clicks, min(max_clicks, 10)).round().astype(int)))
    axes.legend(frameon=False, loc="lower right", fontsize=8, ncols=1 + len(rows) // 9)
    return _png(figure)


def click_histogram(rows: Mapping[str, Sequence[ObjectRow]], quality: float, max_clicks: int) -> str:
    """Objects by the clicks that they took to IoU `quality`, those that never got there apart."""
    figure, axes = _figure()
    width = 0.8 / len(rows)
    for number, ((name, group), colour) in enumerate(zip(rows.items(), COLOURS * 10, strict=False)):
        failed = metrics.nof([row.ious for row in group], quality, max_clicks)
        reached = [row.ious for row in group if metrics.nof([row.ious], quality, max_clicks) == 0]
        counts = np.bincount(
            [metrics.clicks_to(ious, quality, max_clicks) for ious in reached], minlength=max_clicks + 2
        )
        counts[max_clicks + 1] = failed
        places = np.arange(1, max_clicks + 2) - 0.4 + (number + 0.5) * width
        axes.bar(places, counts[1:], width, color=colour, label=name)
    ticks = np.unique(np.linspace(1, max_clicks, min(max_clicks, 10)).round().astype(int))
    axes.set_xticks([*ticks, max_clicks + 1], [*map(str, ticks), "never"])
    axes.set(xlabel=f"clicks to IoU {round(quality * 100)} %", ylabel="objects")
    axes.legend(frameon=False, fontsize=8, ncols=1 + len(rows) // 9)
    return _png(figure)


def loss_curve(history: Sequence[Mapping[str, float]]) -> str:
    """Loss by step of a training run."""
    figure, axes = _figure()
    axes.plot([h["step"] for h in history], [h["loss"] for h in history], color=COLOURS[0])
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
