"""Tables of the evaluation report: heads and lines of (text, whether it is the best of its data set)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import metrics
from pipeline.evaluation.results import ObjectRow

Cell = tuple[str, bool]
MOST_CLASSES = 20
LEAST_OBJECTS = 3
"""A class of fewer objects is counted among the others."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; `note` says how to read it."""

    title: str
    head: list[str]
    lines: list[list[Cell]]
    note: str = ""


def results_table(summaries: Sequence[dict[str, Any]]) -> Table:
    """What everything came to, a line each."""
    last = list(summaries[0]["noc"])[-1]
    several = len({s["policy"] for s in summaries}) > 1
    most = max(s["max_clicks"] for s in summaries)
    columns: list[tuple[str, Any, bool | None]] = [  # title, how to get the number, whether more is better
        *((f"IoU&{k}", lambda s, k=k: s["iou_at"][k], True) for k in summaries[0]["iou_at"]),
        *((f"BIoU&{k}", lambda s, k=k: s.get("biou_at", {}).get(k), True) for k in list(summaries[0]["iou_at"])[-1:]),
        *((f"ASSD&{k}", lambda s, k=k: s.get("assd_at", {}).get(k), False) for k in list(summaries[0]["iou_at"])[-1:]),
        *((metrics.label("NoC", float(q), most), lambda s, q=q: s["noc"][q], False) for q in summaries[0]["noc"]),
        (metrics.label("NoF", float(last), most), lambda s: s["nof"][last], False),
        (f"at {most}", lambda s: s.get("num_at_max", {}).get(last), False),
        ("NoFI", lambda s: s.get("nofi", {}).get(last), False),
        ("honoured", lambda s: s.get("honoured"), True),
        ("s / click", lambda s: s["seconds_per_click"], None),
    ]
    columns = [column for column in columns if any(column[1](s) is not None for s in summaries)]

    def cell(s: dict[str, Any], get: Any, more: bool | None) -> Cell:
        value = get(s)
        if value is None:
            return "", False
        peers = [get(o) for o in summaries if (o["dataset"], o["policy"]) == (s["dataset"], s["policy"])]
        peers = [peer for peer in peers if peer is not None]
        best = more is not None and len(peers) > 1 and value == (max(peers) if more else min(peers))
        text = str(value) if isinstance(value, int) else f"{value:.3f}" if 0 <= value <= 1 else f"{value:.2f}"
        return text, best

    head = ["data", "predictor", *(["robot user"] if several else []), "objects", *(title for title, _, _ in columns)]
    lines = [
        [(s["dataset"], False), (s["refinement"], False)]
        + ([(s["policy"], False)] if several else [])
        + [(str(s["objects"]), False), *(cell(s, get, more) for _, get, more in columns)]
        for s in summaries
    ]
    note = (
        "IoU&k, BIoU&k, ASSD&k: means after k clicks (of borders: IoU, and distance in pixels). NoC@q: mean clicks to "
        "IoU q %, failures counted as the maximum. NoF: objects that never got there, NoFI: images. "
        f"“at {most}”: objects whose count is the maximum, as much of the literature counts failures, those solved by "
        "the very last click included. Honoured: clicks whose pixel got their sign. The best of each data set is bold."
    )
    return Table(title="Results", head=head, lines=lines, note=note)


COUNTS = {
    "cascade_passes": "extra cascade passes",
    "focus_clicks": "clicks that correct a detail",
    "focus_views": "close-ups",
    "focus_distance": "sum of the last reach judged, pixels",
}


def counts_table(summaries: Sequence[dict[str, Any]]) -> Table | None:
    """What refinements did, where they did something."""
    busy = [s for s in summaries if any(s.get("counts", {}).values())]
    if not busy:
        return None
    names = [name for name in COUNTS if any(s["counts"].get(name) for s in busy)]
    lines = [
        [(s["dataset"], False), (s["refinement"], False), (str(s["clicks"]), False)]
        + [(str(s["counts"].get(name, 0)), False) for name in names]
        for s in busy
    ]
    return Table(
        title="What the refinements did",
        head=["data", "predictor", "clicks", *(COUNTS[name] for name in names)],
        lines=lines,
        note="Summed over all objects.",
    )


def class_table(rows: Sequence[ObjectRow], quality: float, max_clicks: int) -> Table | None:
    """Results by class, the most frequent first; None where nothing has a class."""
    groups: dict[str, list[ObjectRow]] = defaultdict(list)
    for row in rows:
        groups[row.category].append(row)
    if not any(groups):
        return None
    ranked = sorted(groups, key=lambda name: (-len(groups[name]), name))
    shown = [name for name in ranked if name and len(groups[name]) >= LEAST_OBJECTS][:MOST_CLASSES]
    others = [row for name in ranked if name not in shown for row in groups[name]]
    entries = [(name, groups[name]) for name in shown] + ([("others", others)] if others else [])

    def line(name: str, group: list[ObjectRow]) -> list[Cell]:
        sessions = [row.ious for row in group]
        figures = [metrics.iou_at(sessions, 1), metrics.iou_at(sessions, max_clicks)]
        noc = metrics.noc(sessions, quality, max_clicks)
        return [(text, False) for text in (name, str(len(group)), *(f"{f:.3f}" for f in figures), f"{noc:.2f}")]

    return Table(
        title=f"By class: {rows[0].dataset}, {rows[0].refinement}",
        head=["class", "objects", "IoU&1", "IoU at the end", metrics.label("NoC", quality, max_clicks)],
        lines=[line(name, group) for name, group in entries],
    )
