"""Columns of tables of summaries: one for each value of a measure's grid."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.measures import MEASURES, Measure

Summary = Mapping[str, Any]
NOTHING = "–"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A measure at one value of its grid; `at` is written as in summaries."""

    measure: Measure
    at: str
    title: str

    def value(self, summary: Summary) -> float | None:
        """Return a summary's value; None if it has none."""
        return self.measure.read(summary).get(self.at)

    def text(self, summary: Summary) -> str:
        """Format a summary's value for tables."""
        return self.shown(self.value(summary))

    def shown(self, value: float | None) -> str:
        """Format any value of the measure for tables."""
        return NOTHING if value is None else format(value, self.measure.form)


def columns_of(measures: Iterable[Measure], summaries: Sequence[Summary], max_clicks: int) -> list[Column]:
    """Make a column for each value of `at` that any of the summaries has, in the order of the measures."""
    out = []
    for measure in measures:
        known = [at for summary in summaries for at, value in measure.read(summary).items() if value is not None]
        for at in dict.fromkeys(known):
            out.append(Column(measure=measure, at=at, title=measure.title(float(at or 0), max_clicks)))
    return out


def printed(summaries: Sequence[Summary], max_clicks: int) -> list[Column]:
    """Make the columns of the terminal's table."""
    columns = columns_of((each for each in MEASURES.values() if each.printed), summaries, max_clicks)
    last = {column.measure.name: column for column in columns}
    return [each for each in columns if each.measure.printed == "each" or each is last[each.measure.name]]
