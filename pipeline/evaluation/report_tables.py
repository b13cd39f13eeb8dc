"""Tables of the report: results and failures by data set, what refinements did, results by class."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline import metrics
from pipeline.evaluation.page import Cell, Table
from pipeline.evaluation.results import Key, ObjectRow, by_key, key_of, predictors

Summary = Mapping[str, Any]
MIN_OBJECTS_OF_A_CLASS = 3
MAX_CLASSES = 20
OTHERS = "others"
NOTHING = "–"


def results_table(summaries: Sequence[Summary]) -> Table:
    """IoU, NoC, borders, honoured clicks and time, a line per predictor, grouped by data set."""
    first, most = summaries[0], _max_clicks(summaries)
    columns: list[tuple[str, Callable[[Summary], float | None], str, int]] = []
    columns += [(f"IoU&{k}", lambda s, k=k: s["iou_at"][k], ".3f", 1) for k in first["iou_at"]]
    columns += [(metrics.label("NoC", float(q), most), lambda s, q=q: s["noc"][q], ".2f", -1) for q in first["noc"]]
    for name, key, form, sign in (("BIoU", "biou_at", ".3f", 1), ("ASSD", "assd_at", ".2f", -1)):
        ks = [k for k in first["iou_at"] if any(s[key].get(k) is not None for s in summaries)]
        columns += [(f"{name}&{k}", lambda s, k=k, key=key: s[key].get(k), form, sign) for k in ks]
    columns += [
        ("honoured", lambda s: s["honoured"], ".1%", 1),
        ("s / click", lambda s: s["seconds_per_click"], ".2f", 0),
    ]
    return _by_data_set(summaries, columns)


def failures_table(summaries: Sequence[Summary]) -> Table:
    """Both readings of "failure at the last click", and images with a failure, at every quality."""
    most = _max_clicks(summaries)
    columns: list[tuple[str, Callable[[Summary], float | None], str, int]] = []
    for q in summaries[0]["nof"]:
        percent = round(float(q) * 100)
        columns += [
            (metrics.label("NoF", float(q), most), lambda s, q=q: s["nof"][q], "d", -1),
            (f"≥{most}@{percent}", lambda s, q=q: s["num_at_max"][q], "d", -1),
            (metrics.label("NoFI", float(q), most), lambda s, q=q: s["nofi"][q], "d", -1),
        ]
    return _by_data_set(summaries, columns)


def counts_table(rows: Sequence[ObjectRow], summaries: Sequence[Summary]) -> Table | None:
    """What refinements did; None if they did nothing that is counted."""
    names = [
        n for n in dict.fromkeys(n for s in summaries for n in s["counts"]) if any(_count(s, n) for s in summaries)
    ]
    if not names:
        return None
    groups = by_key(rows)
    lines: dict[str, list[list[Cell]]] = {}
    titles = predictors(summaries)
    for s in summaries:
        if not any(_count(s, name) for name in names):
            continue
        line = [titles[key_of(s)], str(s["clicks"])]
        for name in names:
            if name == "focus_distance":  # of each object the newest, so that a sum would say nothing
                reached = [d for row in groups[key_of(s)] if (d := row.counts.get(name, 0))]
                line.append(f"{np.mean(reached):.0f} px" if reached else NOTHING)
            else:
                total = _count(s, name)
                line.append(f"{total} ({total / max(1, s['clicks']):.2f} / click)" if total else NOTHING)
        lines.setdefault(s["dataset"], []).append([Cell(text=text) for text in line])
    words = {"focus_distance": "reach of focus clicks, mean"}
    head = ["predictor", "clicks", *(words.get(name, name.replace("_", " ")) for name in names)]
    return Table(head=head, groups=list(lines.items()))


def classes_table(rows: Sequence[ObjectRow], summary: Summary) -> Table | None:
    """Results by class, the most frequent first; rare classes in one line; None if the data set has no classes."""
    if not any(row.category for row in rows):
        return None
    sizes = Counter(row.category or NOTHING for row in rows)
    ordered = sorted(sizes, key=lambda name: (-sizes[name], name))
    shown = [name for name in ordered if sizes[name] >= MIN_OBJECTS_OF_A_CLASS]
    if len(shown) < len(ordered) or len(shown) > MAX_CLASSES:
        shown = shown[: MAX_CLASSES - 1]
    groups = [(name, [row.ious for row in rows if (row.category or NOTHING) == name]) for name in shown]
    rest = [row.ious for row in rows if (row.category or NOTHING) not in shown]
    if rest:
        groups.append((f"{OTHERS} ({len(ordered) - len(shown)} classes)", rest))
    most = summary["max_clicks"]
    lines = []
    for name, sessions in groups:
        line = [name, str(len(sessions))]
        line += [f"{metrics.iou_at(sessions, int(k)):.3f}" for k in summary["iou_at"]]
        line += [f"{metrics.noc(sessions, float(q), most):.2f}" for q in summary["noc"]]
        lines.append([Cell(text=text) for text in line])
    head = ["class", "objects", *(f"IoU&{k}" for k in summary["iou_at"])]
    return Table(head=[*head, *(metrics.label("NoC", float(q), most) for q in summary["noc"])], groups=[("", lines)])


def _by_data_set(
    summaries: Sequence[Summary], columns: Sequence[tuple[str, Callable[[Summary], float | None], str, int]]
) -> Table:
    """Lay out (heading, value, format, 1 if high is good, -1 if low, 0 if nothing is marked) columns."""
    titles, texts = predictors(summaries), {}
    for s in summaries:
        values = [value(s) for _, value, _, _ in columns]
        texts[key_of(s)] = [
            NOTHING if v is None else format(v, form) for v, (_, _, form, _) in zip(values, columns, strict=True)
        ]
    groups: dict[str, list[list[Cell]]] = {}
    for s in summaries:
        # Robot users make different tasks of the same objects: only predictors under the same one compete.
        rivals = [texts[key_of(o)] for o in summaries if (o["dataset"], o["policy"]) == (s["dataset"], s["policy"])]
        line = [Cell(text=titles[key_of(s)])]
        for number, (_, _, _, sign) in enumerate(columns):
            text = texts[key_of(s)][number]
            line.append(Cell(text=text, best=_is_best(text, [rival[number] for rival in rivals], sign)))
        objects = f"{s['dataset']}: {s['objects']} objects"
        groups.setdefault(objects, []).append(line)
    return Table(head=["predictor", *(name for name, _, _, _ in columns)], groups=list(groups.items()))


def _is_best(text: str, rivals: Sequence[str], sign: int) -> bool:
    """Whether none is better as shown, and some are worse."""
    known = [sign * float(rival.rstrip("%")) for rival in rivals if rival != NOTHING]
    return sign != 0 and text != NOTHING and sign * float(text.rstrip("%")) == max(known) > min(known)


def _count(summary: Summary, name: str) -> int:
    return summary["counts"].get(name, 0)


def _max_clicks(summaries: Sequence[Summary]) -> int:
    return max(s["max_clicks"] for s in summaries)


def shown_in_each(summaries: Sequence[Summary], shown: Key) -> list[Summary]:
    """Summaries of the shown predictor, one per data set that has it."""
    return [s for s in summaries if key_of(s)[1:] == shown[1:]]
