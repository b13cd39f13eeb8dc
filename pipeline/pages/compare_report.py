"""The page that compares two evaluations of the same objects, and the same results as JSON."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import InputError
from models.files import write_json
from pipeline import metrics
from pipeline.data.sample import Reader
from pipeline.drawing.figures import COLOURS, new_figure, png
from pipeline.evaluation.compare import Difference, pairs
from pipeline.evaluation.object_row import ObjectRow
from pipeline.pages.page import LEGEND, Cell, Picture, Table, render, session_picture
from pipeline.pages.report_figures import ticks

Pair = tuple[ObjectRow, ObjectRow]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """One object in A and B: clicks to the compared quality (None: never reached) and mean IoU over clicks."""

    pair: Pair
    clicks: tuple[int | None, int | None]
    mean_ious: tuple[float, float]

    def gain(self, max_clicks: int) -> tuple[float, float]:
        """Return the clicks that B saves and the IoU that it gains: a sort key from worst to best for B."""
        a, b = (max_clicks + 1 if clicks is None else clicks for clicks in self.clicks)
        return a - b, self.mean_ious[1] - self.mean_ious[0]


def changes(
    rows_a: Sequence[ObjectRow], rows_b: Sequence[ObjectRow], quality: float | None, max_clicks: int
) -> list[Change]:
    """Pair the objects, those with the largest gain of B first; without `quality`, by IoU alone."""
    out = []
    for pair in pairs(rows_a, rows_b):
        a, b = pair
        clicks = None, None
        if quality is not None:
            clicks = metrics.reaches(a.ious, quality, max_clicks), metrics.reaches(b.ious, quality, max_clicks)
        means = float(np.mean(metrics.padded(a.ious, max_clicks))), float(np.mean(metrics.padded(b.ious, max_clicks)))
        out.append(Change(pair=pair, clicks=clicks, mean_ious=means))
    return sorted(out, key=lambda change: change.gain(max_clicks), reverse=True)


def write_comparison(
    out: Path,
    differences: Sequence[Difference],
    rows_a: Sequence[ObjectRow],
    rows_b: Sequence[ObjectRow],
    *,
    names: tuple[str, str],
    quality: float | None,
    max_clicks: int,
    reader: Reader | None = None,
    num_overlays: int = 4,
) -> None:
    """Write OUT/compare.json and OUT/compare.html; `reader` provides the images for pictures.

    Raises InputError if the reader lacks an image.
    """
    if reader is not None:
        missing = sorted({row.item for row in rows_a} - {item.id for item in reader.items()})
        if missing:
            raise InputError(
                f"the data set has no {missing[0]!r} ({len(missing)} images of the evaluations are missing): give the "
                "--reader, --root, --split and --options that the evaluations were made with"
            )
    ranked = changes(rows_a, rows_b, quality, max_clicks)
    gains = [change.gain(max_clicks)[0] for change in ranked]
    render(
        out / "compare.html",
        "compare.html.j2",
        title="Comparison of two evaluations",
        subtitle=f"A: {names[0]}. B: {names[1]}. {len(ranked)} objects.",
        table=_table(differences),
        scatter=_scatter(ranked, quality, max_clicks) if quality is not None else "",
        quality=f"{quality:.2f}" if quality is not None else "",
        fewer=sum(gain > 0 for gain in gains),
        more=sum(gain < 0 for gain in gains),
        same=sum(gain == 0 for gain in gains),
        legend=LEGEND,
        sections=_sections(ranked, reader, num_overlays, quality, max_clicks),
    )
    write_json(out / "compare.json", _json(differences, ranked, names, quality))


def _json(
    differences: Sequence[Difference], ranked: Sequence[Change], names: tuple[str, str], quality: float | None
) -> dict[str, Any]:
    objects = [
        {
            "dataset": change.pair[0].dataset,
            "object": change.pair[0].object,
            "clicks_a": change.clicks[0],
            "clicks_b": change.clicks[1],
            "mean_iou_a": change.mean_ious[0],
            "mean_iou_b": change.mean_ious[1],
        }
        for change in ranked
    ]
    shown = ("metric", "mean_a", "mean_b", "low", "high", "num_objects", "verdict", "better")
    found = [{name: getattr(d, name) for name in shown} for d in differences]
    return {"a": names[0], "b": names[1], "differences": found, "quality": quality, "objects": objects}


def _table(differences: Sequence[Difference]) -> Table:
    lines = []
    for d in differences:
        texts = [d.metric, f"{d.mean_a:.3f}", f"{d.mean_b:.3f}", f"{d.mean_b - d.mean_a:+.3f}"]
        texts += [f"{d.low:+.3f} … {d.high:+.3f}", f"{d.better} better" if d.better else "none shown"]
        cells = [Cell(text=text) for text in (*texts, str(d.num_objects))]
        cells[5] = dataclasses.replace(cells[5], best=bool(d.better))
        lines.append(cells)
    head = ["metric", "A", "B", "B - A", "95 % interval", "difference", "objects"]
    return Table(head=head, groups=[("", lines)])


def _scatter(ranked: Sequence[Change], quality: float, max_clicks: int) -> str:
    """Draw clicks in B against clicks in A: a disc per pair of numbers, whose area is the number of objects."""
    never = max_clicks + max(1.5, 0.08 * max_clicks)
    found = Counter((never if a is None else a, never if b is None else b) for a, b in (c.clicks for c in ranked))
    figure, (axes,) = new_figure(width=5.2, height=5.0)
    for (a, b), num in found.items():
        colour = COLOURS[2] if b < a else COLOURS[1] if b > a else "#98a1ad"
        axes.scatter([a], [b], s=700 * num / max(8, max(found.values())), color=colour, alpha=0.75, linewidths=0)
        if num > 1:
            axes.annotate(str(num), (a, b), ha="center", va="center", fontsize=8)
    axes.plot([0, never + 1], [0, never + 1], color="#98a1ad", linewidth=0.8, zorder=0)
    places, words = [*ticks(max_clicks), never], [*map(str, ticks(max_clicks)), "never"]
    axes.set_xticks(places, words)
    axes.set_yticks(places, words)
    axes.set(xlabel=f"clicks to IoU {quality:.2f}, A", ylabel=f"clicks to IoU {quality:.2f}, B")
    axes.set(xlim=(0.2, never + 0.8), ylim=(0.2, never + 0.8), aspect="equal")
    return png(figure)


def _sections(
    ranked: Sequence[Change], reader: Reader | None, num: int, quality: float | None, max_clicks: int
) -> list[tuple[str, list[tuple[str, list[Picture]]]]]:
    if reader is None or num < 1:
        return []
    items = {item.id: item for item in reader.items()}
    zero = (0.0, 0.0)
    better = [change for change in ranked if change.gain(max_clicks) > zero][:num]
    worse = [change for change in reversed(ranked) if change.gain(max_clicks) < zero][:num]
    sections = []
    for title, chosen in (("Where B gains most", better), ("Where B loses most", worse)):
        drawn = []
        for change in chosen:
            pictures = [
                session_picture(row, items, reader, f"{side}: IoU {row.ious[-1]:.2f} after {len(row.ious)}")
                for side, row in zip("AB", change.pair, strict=True)
            ]
            drawn.append((_what_changed(change, quality), pictures))
        if drawn:
            sections.append((title, drawn))
    return sections


def _what_changed(change: Change, quality: float | None) -> str:
    text = f"{change.pair[0].object}: mean IoU over clicks {change.mean_ious[0]:.2f} → {change.mean_ious[1]:.2f}"
    if quality is None:
        return text
    a, b = ("never" if clicks is None else clicks for clicks in change.clicks)
    return f"{text}, IoU {quality:.2f} at click {a} → {b}"
