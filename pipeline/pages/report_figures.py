"""Figures of the report: IoU by number of clicks, clicks to a quality, time per click, loss of a training run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline import metrics
from pipeline.drawing.figures import COLOURS, legend, new_figure, png
from pipeline.evaluation.object_row import Key, ObjectRow
from pipeline.evaluation.results import key_of

MAX_PANELS = 8
LINES = ("-", "--", ":", "-.")
MARKERS: dict[str, str] = dict(zip(LINES, "os^D", strict=True))
Style = tuple[str, str]
"""Colour and line style."""


def styles(summaries: Sequence[Mapping[str, Any]]) -> dict[Key, Style]:
    """Assign each summary a colour (per refinement) and a line style (per robot user), the same in all figures."""
    refinements = list(dict.fromkeys(s["refinement"] for s in summaries))
    policies = list(dict.fromkeys(s["policy"] for s in summaries))
    return {
        key_of(s): (
            COLOURS[refinements.index(s["refinement"]) % len(COLOURS)],
            LINES[policies.index(s["policy"]) % len(LINES)],
        )
        for s in summaries
    }


def clicks_figure(groups: Mapping[str, tuple[Style, Sequence[ObjectRow]]], max_clicks: int) -> str:
    """Draw the mean IoU against the number of clicks, a line per predictor."""
    few = len(groups) <= 6
    figure, (axes,) = new_figure(height=3.7 if few else 3.7 + 0.2 * len(groups))
    clicks = np.arange(1, max_clicks + 1)
    for name, ((colour, line), rows) in groups.items():
        mean = np.array([metrics.padded(row.ious, max_clicks) for row in rows]).mean(0)
        axes.plot(clicks, mean, marker="o", markersize=3, color=colour, linestyle=line, label=_visible(name))
    axes.set(xlabel="clicks", ylabel="mean IoU", ylim=(0, 1), xlim=(0.6, max_clicks + 0.4))
    axes.set_xticks(ticks(max_clicks))
    if few:
        legend(axes, loc="lower right")
    else:
        legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return png(figure)


def histogram_figure(groups: Mapping[str, tuple[Style, Sequence[ObjectRow]]], quality: float, max_clicks: int) -> str:
    """Draw histograms of clicks to `quality`, a panel per predictor (8 at most); failures have a separate bar."""
    names = list(groups)[:MAX_PANELS]
    figure, panels = new_figure(height=1.1 + 1.15 * len(names), num_rows=len(names))
    never = max_clicks + max(1.5, 0.06 * max_clicks)
    width = 0.8 * max(1.0, 0.03 * max_clicks)
    highest = 1
    for name, axes in zip(names, panels, strict=True):
        (colour, _), rows = groups[name]
        taken = [metrics.reaches(row.ious, quality, max_clicks) for row in rows]
        bars = np.bincount([t for t in taken if t is not None], minlength=max_clicks + 1)[1:]
        failures = taken.count(None)
        axes.bar(np.arange(1, max_clicks + 1), bars, width=0.8, color=colour)
        axes.bar([never], [failures], width=width, color="#b8bfc8")
        if failures:
            axes.annotate(str(failures), (never, failures), ha="center", va="bottom", fontsize=8, color="#4a5568")
        axes.set_title(name, fontsize=9, loc="left", parse_math=False)
        highest = max(highest, int(bars.max()), failures)
    for axes in panels:
        axes.set_ylim(0, highest * 1.25)
        axes.yaxis.get_major_locator().set_params(integer=True, nbins=3)
    panels[-1].set_xticks([*ticks(max_clicks), never], [*map(str, ticks(max_clicks)), "never"])
    panels[-1].set_xlabel(f"clicks to IoU {quality:.2f}")
    figure.supylabel("objects", fontsize=10)
    return png(figure)


def price_figure(points: Mapping[str, tuple[Style, float, float]], quality: float) -> str:
    """Draw mean clicks to `quality` against milliseconds per click; `points`: (style, milliseconds, clicks) by name."""
    from matplotlib.ticker import LogLocator, NullFormatter

    figure, (axes,) = new_figure(height=3.7 if len(points) <= 6 else 3.7 + 0.2 * len(points))
    for name, ((colour, line), milliseconds, clicks) in points.items():
        axes.plot(milliseconds, clicks, marker=MARKERS[line], color=colour, linestyle="", label=_visible(name))
    axes.set(xlabel="milliseconds per click", ylabel=f"mean clicks to IoU {quality:.2f}", xscale="log")
    axes.margins(0.15)
    times = [milliseconds for _, milliseconds, _ in points.values()]
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(times) > 10 * min(times) else (1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    legend(axes, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    return png(figure)


def loss_figure(history: Sequence[Mapping[str, Any]]) -> str:
    """Draw a training run's loss by step."""
    figure, (axes,) = new_figure()
    axes.plot([h["step"] for h in history], [h["loss"] for h in history], color=COLOURS[0])
    axes.set(xlabel="step", ylabel="iterative click loss", ylim=(0, None))
    return png(figure)


def ticks(max_clicks: int) -> list[int]:
    """Return the numbers of clicks to label on an axis: the first, the last, and some in between."""
    return np.unique(np.linspace(1, max_clicks, min(max_clicks, 10)).round().astype(int)).tolist()


def _visible(name: str) -> str:
    return name if not name.startswith("_") else " " + name  # matplotlib's legends omit names that start with _
