"""The page about a sweep: which setting to use, what it costs, and which parameters matter."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.drawing.figures import COLOURS, legend, new_figure, png
from pipeline.drawing.fonts import drawn
from pipeline.pages.page import Cell, Table, render
from pipeline.tuning.contest import PLAYED, Contest
from pipeline.tuning.outcome import Standing, forwards, importance, standings, verdict
from pipeline.tuning.settings import REFINE

TOP = 12
MAX_SLICES = 8


def write_report(path: Path, contest: Contest, *, title: str, subtitle: str, seed: int = 0) -> str:
    """Write the page and return its verdict, one sentence."""
    found = standings(contest, seed)
    num_objects = max(standing.objects for standing in found)
    sentence = verdict(found, contest.objective, num_objects)
    asked, computed = forwards(contest)
    failed = [entry for entry in contest.entries.values() if entry.status == "failed"]
    render(
        path,
        "sweep.html.j2",
        title=title,
        subtitle=subtitle,
        sentence=sentence,
        table=_table(found[:TOP], contest),
        num_settings=len(found),
        num_shown=min(TOP, len(found)),
        pareto=pareto_figure(found, contest),
        coordinates=coordinates_figure(found, contest),
        importance=importance_figure(contest),
        slices=slices(contest),
        dropped=[(contest.title(s.entry), s.objects, s.entry.reason) for s in found if s.entry.status == "dropped"],
        failed=[(contest.title(entry), entry.reason) for entry in failed],
        asked=asked,
        computed=computed,
        played=sum(s.objects for s in found),
        all_objects=num_objects * len(found),
    )
    return sentence


def _table(found: list[Standing], contest: Contest) -> Table:
    best = found[0]
    lines = []
    for standing in found:
        difference = "" if standing.difference is None else f"{standing.difference:+.3f}"
        interval = "" if standing.low is None else f"[{standing.low:+.3f}, {standing.high:+.3f}]"
        name = contest.title(standing.entry)
        lines.append(
            [
                Cell(text=name),
                Cell(text=f"{standing.estimate:.3f}" + " ~" * (standing.entry.status != PLAYED), best=standing is best),
                Cell(text=difference),
                Cell(text=interval, best=standing.better(contest.objective)),
                Cell(text=f"{standing.seconds_per_click:.3f}"),
                Cell(text=str(standing.objects)),
            ]
        )
    label = contest.objective.label
    head = ["setting", label, "vs default", "95 % interval", "s/click", "objects"]
    return Table(head=head, groups=[("", lines)])


def pareto_figure(found: list[Standing], contest: Contest) -> str:
    """Draw the objective against seconds per click, with the best setting at each price."""
    figure, (axes,) = new_figure(height=4.2)
    done = [s for s in found if s.entry.status == PLAYED]
    dropped = [s for s in found if s.entry.status != PLAYED]
    for group, style in (
        (dropped, {"marker": "x", "color": "#a8b0bc", "label": "dropped early (estimated)"}),
        (done, {"marker": "o", "color": COLOURS[0], "label": "all objects"}),
    ):
        if group:
            axes.scatter([s.seconds_per_click for s in group], [s.estimate for s in group], s=34, zorder=3, **style)
    by_name = {s.entry.name: s for s in done}
    front = [by_name[entry.name] for entry in contest.pareto_front()]
    xs, ys = [s.seconds_per_click for s in front], [s.value for s in front]
    axes.plot(xs, ys, color=COLOURS[2], drawstyle="steps-post", label="best at its price", zorder=2)
    default = by_name.get(contest.default)
    if default is not None:
        place = (default.seconds_per_click, default.value)
        axes.scatter(*[[v] for v in place], marker="s", s=60, color=COLOURS[1], label="default", zorder=4)
    axes.set(xlabel="seconds per click", ylabel=contest.objective.label)
    axes.grid(axis="x", color="#e3e6ea")
    legend(axes, loc="best")
    return png(figure)


def coordinates_figure(found: list[Standing], contest: Contest) -> str:
    """Draw parallel coordinates: a line per setting, coloured by the objective; "" for fewer than two parameters."""
    entries = [s for s in found if s.entry.values]
    names = list(dict.fromkeys(name for s in entries for name in s.entry.values))
    names = [name for name in names if len({repr(s.entry.values.get(name)) for s in entries}) > 1]
    if len(names) < 2 or len(entries) < 2:
        return ""
    from matplotlib import colormaps

    figure, (axes,) = new_figure(width=max(5.6, 1.5 * (len(names) + 1)), height=4.2)
    places = {name: _places([s.entry.values.get(name) for s in entries]) for name in names}
    values = np.array([s.estimate for s in entries])
    spread = np.ptp(values) or 1.0
    good = (values.max() - values) / spread
    if contest.objective.high_is_good:
        good = 1 - good
    for number in np.argsort(good):
        ys = [places[name][0][number] for name in names] + [float((values[number] - values.min()) / spread)]
        axes.plot(range(len(ys)), ys, color=colormaps["viridis_r"](good[number]), linewidth=1.6, alpha=0.85)
    for x, name in enumerate(names):
        axes.axvline(x, color="#c9ced6", linewidth=1, zorder=0)
        for text, y in places[name][1]:
            _write(axes, text, x, y)
    axes.axvline(len(names), color="#c9ced6", linewidth=1, zorder=0)
    for y, value in ((0, values.min()), (1, values.max())):
        _write(axes, f"{value:.2f}", len(names), y)
    labels = [drawn(name.removeprefix(REFINE).replace(".", ".\n"))[0] for name in names]
    axes.set_xticks(range(len(names) + 1), [*labels, contest.objective.label], fontsize=8)
    axes.set(yticks=[], xlim=(-0.2, len(names) + 0.5), ylim=(-0.06, 1.06))
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    return png(figure)


def _write(axes: Any, text: str, x: float, y: float) -> None:
    axes.annotate(drawn(text)[0], (x, y), xytext=(4, 0), textcoords="offset points", fontsize=8, va="center")


def _places(values: list[Any]) -> tuple[list[float], list[tuple[str, float]]]:
    """Return heights 0..1 of values on an axis, and the axis' labels; sorted numbers come before other values."""
    by_text = {repr(value): value for value in values}
    numbers = sorted(value for value in by_text.values() if _number(value))
    different = [*numbers, *(by_text[text] for text in sorted(by_text) if not _number(by_text[text]))]
    if len(numbers) == len(different) > 6:
        low, high = numbers[0], numbers[-1]
        return [(v - low) / (high - low) for v in values], [(f"{low:.3g}", 0.0), (f"{high:.3g}", 1.0)]
    heights = {repr(v): k / max(1, len(different) - 1) for k, v in enumerate(different)}
    return [heights[repr(v)] for v in values], [(_text(v), heights[repr(v)]) for v in different]


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def importance_figure(contest: Contest) -> str:
    """Draw bars: the share of the variance between settings that each parameter explains alone."""
    shares = importance(contest)
    if not any(shares.values()):
        return ""
    figure, (axes,) = new_figure(height=0.9 + 0.36 * len(shares))
    names = [name.removeprefix(REFINE) for name in shares]
    axes.barh(names[::-1], list(shares.values())[::-1], color=COLOURS[0], height=0.6)
    axes.set(xlabel="share of the variance explained", xlim=(0, 1))
    axes.grid(axis="x", color="#e3e6ea")
    axes.grid(axis="y", visible=False)
    return png(figure)


def slices(contest: Contest) -> list[tuple[str, str]]:
    """Draw, for each parameter that varies, the loss reported to the search against the parameter's values."""
    entries = [e for e in contest.entries.values() if e.rows() and e.values]
    out = []
    for name in importance(contest):
        values = [entry.values.get(name) for entry in entries]
        if len({repr(value) for value in values}) < 2 or len(out) >= MAX_SLICES:
            continue
        heights = [contest.estimate(entry)[0] for entry in entries]
        figure, (axes,) = new_figure(width=4.2, height=2.8)
        numbers = all(_number(value) for value in values)
        if numbers:
            axes.scatter(values, heights, s=24, color=COLOURS[0])
        else:
            different = list(dict.fromkeys(map(repr, values)))
            axes.scatter([different.index(repr(value)) for value in values], heights, s=24, color=COLOURS[0])
            axes.set_xticks(range(len(different)), [drawn(text.strip("'"))[0] for text in different], fontsize=8)
            axes.set_xlim(-0.5, len(different) - 0.5)
        axes.set(xlabel=name.removeprefix(REFINE), ylabel="loss in the race")
        out.append((name.removeprefix(REFINE), png(figure)))
    return out
