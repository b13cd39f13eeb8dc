"""Tables of the report: results and failures by data set, actions of refinements, results by class."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from pipeline.evaluation.columns import NOTHING, Column, Summary, columns_of, printed
from pipeline.evaluation.measures import MEASURES, Better, Group
from pipeline.evaluation.object_row import Key, ObjectRow, by_key
from pipeline.evaluation.results import key_of, predictors
from pipeline.pages.page import Cell, Table

MIN_OBJECTS_OF_A_CLASS = 3
MAX_CLASSES = 20
OTHERS = "others"


def results_table(summaries: Sequence[Summary]) -> Table:
    """Make the table of measures: a line per predictor, grouped by data set."""
    return _by_data_set(summaries, _columns(summaries, "results"))


def failures_table(summaries: Sequence[Summary]) -> Table:
    """Make the table of failures: both readings of "solved at the last click", and images with a failure, by IoU."""
    return _by_data_set(summaries, sorted(_columns(summaries, "failures"), key=lambda column: float(column.at)))


def _columns(summaries: Sequence[Summary], page: str) -> list[Column]:
    measures = [measure for measure in MEASURES.values() if measure.page == page]
    return columns_of(measures, summaries, max(s["max_clicks"] for s in summaries))


def counts_table(rows: Sequence[ObjectRow], summaries: Sequence[Summary]) -> Table | None:
    """Make the table of what refinements did; None if nothing was counted."""
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
            if name == "focus_distance":  # each object's newest value, so a sum is meaningless
                reached = [d for row in groups[key_of(s)] if (d := row.counts.get(name, 0))]
                line.append(f"{np.mean(reached):.0f} px" if reached else NOTHING)
            else:
                total = _count(s, name)
                line.append(f"{total} ({total / max(1, s['clicks']):.2f} / click)" if total else NOTHING)
        lines.setdefault(s["dataset"], []).append([Cell(text=text) for text in line])
    words = {"focus_distance": "mean reach of focus clicks"}
    head = ["predictor", "clicks", *(words.get(name, name.replace("_", " ")) for name in names)]
    return Table(head=head, groups=list(lines.items()))


def classes_table(rows: Sequence[ObjectRow], summary: Summary) -> Table | None:
    """Make the table of results by class, most frequent first; None if the data set has no classes.

    Rare classes share the last line.
    """
    if not any(row.category for row in rows):
        return None
    sizes = Counter(row.category or NOTHING for row in rows)
    ordered = sorted(sizes, key=lambda name: (-sizes[name], name))
    shown = [name for name in ordered if sizes[name] >= MIN_OBJECTS_OF_A_CLASS]
    if len(shown) < len(ordered) or len(shown) > MAX_CLASSES:
        shown = shown[: MAX_CLASSES - 1]
    groups = [(name, [row for row in rows if (row.category or NOTHING) == name]) for name in shown]
    rest = [row for row in rows if (row.category or NOTHING) not in shown]
    if rest:
        groups.append((f"{OTHERS} ({len(ordered) - len(shown)} classes)", rest))
    most = summary["max_clicks"]
    columns = [each for each in printed([summary], most) if each.measure.printed == "each" and each.measure.of_object]
    lines = []
    for name, group in groups:
        together = Group(rows=group, max_clicks=most)
        values = [each.measure.over(together, float(each.at or 0)) for each in columns]
        texts = [each.shown(value) for each, value in zip(columns, values, strict=True)]
        lines.append([Cell(text=text) for text in (name, str(len(group)), *texts)])
    return Table(head=["class", "objects", *(each.title for each in columns)], groups=[("", lines)])


def _by_data_set(summaries: Sequence[Summary], columns: Sequence[Column]) -> Table:
    titles = predictors(summaries)
    texts = {key_of(s): [column.text(s) for column in columns] for s in summaries}
    groups: dict[str, list[list[Cell]]] = {}
    for s in summaries:
        # Results of different robot users are not comparable: the best is marked for each robot user.
        rivals = [texts[key_of(o)] for o in summaries if (o["dataset"], o["policy"]) == (s["dataset"], s["policy"])]
        line = [Cell(text=titles[key_of(s)])]
        for column, text, others in zip(columns, texts[key_of(s)], zip(*rivals, strict=True), strict=True):
            line.append(Cell(text=text, best=_is_best(text, others, column.measure.better)))
        groups.setdefault(f"{s['dataset']}: {s['objects']} objects", []).append(line)
    head = ["predictor", *(column.title.replace("/", " / ") for column in columns)]
    return Table(head=head, groups=list(groups.items()))


def _is_best(text: str, rivals: Sequence[str], better: Better) -> bool:
    """Whether no rival is better, as rounded, and at least one is worse."""
    if not better or text == NOTHING:
        return False
    sign = 1 if better == "higher" else -1
    known = [sign * float(rival.rstrip("%")) for rival in rivals if rival != NOTHING]
    return sign * float(text.rstrip("%")) == max(known) > min(known)


def _count(summary: Summary, name: str) -> int:
    return summary["counts"].get(name, 0)


def shown_in_each(summaries: Sequence[Summary], shown: Key) -> list[Summary]:
    """Return the summaries of the shown predictor, one per data set that has it."""
    return [s for s in summaries if key_of(s)[1:] == shown[1:]]
