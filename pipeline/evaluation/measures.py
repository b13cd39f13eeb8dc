"""What an evaluation measures. A line in MEASURES adds a measure to rows, files, tables, comparisons, pages and sweeps.

A measure of masks (`per_click`) has a value after each click, and so a mean after the first k clicks. A measure of
sessions is a function of an object's row (`of_object`), or of all rows together (`of_all`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pipeline import metrics
from pipeline.boundaries import assd, biou
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.object_row import ObjectRow

Better = Literal["higher", "lower", ""]
Page = Literal["results", "failures", ""]
Grid = Literal["at_clicks", "further_clicks", "qualities", ""]
OfMask = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
"""(mask, object mask, ignored pixels), bool (h, w) each -> value; nan where there is none."""
HEADINGS = {
    "at_clicks": "{label}&{at}",
    "further_clicks": "m{label}@{at}+",
    "qualities": "{label}{more}@{percent}",
    "": "{label}",
}
COLUMNS = {"at_clicks": "{name}_after_{at}", "further_clicks": "{name}_{at}", "qualities": "{name}_{at}", "": "{name}"}


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows that are averaged together: those of one data set, refinement and robot user, or a part of them."""

    rows: Sequence[ObjectRow]
    max_clicks: int
    seconds: float = 0.0
    """Time that their clicks took."""
    by_category: bool = False
    """Whether a sample is a category of an image, not an image."""

    @property
    def sessions(self) -> list[list[float]]:
        """IoUs of each row."""
        return [row.ious for row in self.rows]


OfAll = Callable[[Group, float], float | None]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measure, and how it is shown. `at` is a value of its grid: a number of clicks, or an IoU to reach."""

    name: str
    label: str
    key: str
    """In summary.json."""
    grid: Grid = ""
    """Which values of the protocol it is given for; "": it is one number."""
    better: Better = "higher"
    """"": no value of it is marked as the best."""
    form: str = ".3f"
    undefined: float | Literal["max_clicks"] | None = None
    """What counts where it has no value; None: such objects are left out."""
    of_mask: OfMask | None = None
    costly: bool = False
    """Extra work: measured if the protocol's `boundaries` says so, after the clicks `at_clicks` and the last one."""
    of_object: Callable[[ObjectRow, float, int], float | None] | None = None
    """(row, at, max_clicks) -> value. Without it there is neither a column of objects.csv nor a comparison."""
    of_all: OfAll | None = None
    """Value of rows together; without it the mean of `of_object`."""
    heading: str = ""
    """Of a column in tables; "": as all of its grid."""
    column: str = ""
    """In objects.csv; "": as all of its grid."""
    printed: Literal["each", "last", ""] = "each"
    """Whether the table on the terminal has it, at each value of the grid or at the last; MLflow has what it has."""
    page: Page = "results"
    """Which table of the report has it."""

    def after(self, mask: np.ndarray, object_mask: np.ndarray, ignore_mask: np.ndarray) -> float | None:
        """Measure a mask; all bool (h, w)."""
        assert self.of_mask is not None
        assert self.undefined != "max_clicks"
        value = self.of_mask(mask, object_mask, ignore_mask)
        return self.undefined if np.isnan(value) else float(value)

    def of(self, row: ObjectRow, at: float, max_clicks: int) -> float | None:
        """Value of an object as it counts; None: it is left out."""
        assert self.of_object is not None
        value = self.of_object(row, at, max_clicks)
        return value if value is not None else max_clicks if self.undefined == "max_clicks" else self.undefined

    def over(self, group: Group, at: float) -> float | None:
        """Value of rows together; None if none of them has one."""
        if self.of_all is not None:
            return self.of_all(group, at)
        return metrics.mean_of_known(self.of(row, at, group.max_clicks) for row in group.rows)

    def summary(self, group: Group, config: EvaluationConfig) -> Any:
        """What summary.json holds: by `at` if the measure has a grid."""
        if not self.grid:
            return self.over(group, 0)
        return {self.text(at): self.over(group, at) for at in getattr(config, self.grid)}

    def read(self, summary: Mapping[str, Any]) -> dict[str, float | None]:
        """Values of a summary by `at` ("" without a grid); those that it does not know are missing."""
        found = summary.get(self.key)
        return found or {} if self.grid else {"": found}

    def text(self, at: float) -> str:
        """`at` as files have it."""
        return f"{at:.2f}" if self.grid == "qualities" else str(at)

    def title(self, at: float, max_clicks: int = 20) -> str:
        """Name a column: NoC@90 for the usual 20 clicks (or fewer), NoC100@90 where there are more."""
        more = max_clicks if max_clicks > 20 else ""
        words = {"label": self.label, "at": f"{at:g}", "percent": round(at * 100), "more": more, "most": max_clicks}
        return (self.heading or HEADINGS[self.grid]).format(**words)

    def flat_key(self, at: str) -> str:
        """Name of one number of a summary among others: noc_90, iou_at_5."""
        number = str(round(100 * float(at))) if self.grid == "qualities" else at
        return f"{self.key}_{number}" if self.grid else self.key

    def column_of(self, at: str) -> str:
        """Name of a column of objects.csv."""
        return (self.column or COLUMNS[self.grid]).format(name=self.name, at=at)


def per_click(name: str, label: str, of_mask: OfMask, **more: Any) -> Measure:
    """Make a measure of masks; `more` are fields of Measure."""

    def of_object(row: ObjectRow, at: float, max_clicks: int) -> float | None:
        return metrics.at_click(row.values(name), int(at))

    return Measure(
        name=name, label=label, key=f"{name}_at", grid="at_clicks", of_mask=of_mask, of_object=of_object, **more
    )


def per_quality(
    name: str, label: str, of_all: OfAll, *, form: str = "d", page: Page = "failures", **more: Any
) -> Measure:
    """Make a count by the IoU to reach, low is good; `more` are fields of Measure."""
    return Measure(
        name=name, label=label, key=name, grid="qualities", of_all=of_all, better="lower", form=form, page=page, **more
    )


def of_ious(count: Callable[[Sequence[Sequence[float]], float, int], float]) -> OfAll:
    """Make a function of rows from one of (IoUs of all sessions, quality, max_clicks)."""
    return lambda group, at: count(group.sessions, at, group.max_clicks)


def _nofi(group: Group, quality: float) -> int:
    items = [(row.item, row.category if group.by_category else "") for row in group.rows]
    return metrics.nofi(items, group.sessions, quality, group.max_clicks)


def _honoured(group: Group, at: float) -> float:
    return sum(row.num_honoured for row in group.rows) / max(1, sum(map(len, group.sessions)))


def _reaches(row: ObjectRow, quality: float, max_clicks: int) -> int | None:
    return metrics.reaches(row.ious, quality, max_clicks)


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        per_click("iou", "IoU", metrics.iou, undefined=0.0),
        per_quality(
            "noc", "NoC", of_ious(metrics.noc), form=".2f", page="results", undefined="max_clicks", of_object=_reaches,
            column="clicks_to_{at}",
        ),
        per_quality("nof", "NoF", of_ious(metrics.nof), printed="last"),
        per_quality("num_at_max", "at max", of_ious(metrics.num_at_max), heading="≥{most}@{percent}", printed=""),
        per_quality("nofi", "NoFI", _nofi, printed=""),
        Measure(
            name="miou", label="IoU", key="miou_after", grid="further_clicks", printed="", page="",
            of_all=lambda group, at: metrics.miou_after(group.sessions, int(at)),
        ),
        per_click(
            "biou", "BIoU", lambda mask, truth, ignored: biou(mask, truth & ~ignored), costly=True, printed=""
        ),
        per_click(
            "assd", "ASSD", lambda mask, truth, ignored: assd(mask, truth & ~ignored), costly=True, printed="",
            better="lower", form=".2f",
        ),
        Measure(name="honoured", label="honoured", key="honoured", form=".1%", printed="", of_all=_honoured),
        Measure(
            name="seconds_per_click", label="s/click", key="seconds_per_click", better="", form=".2f",
            of_all=lambda group, at: metrics.seconds_per_click(group.seconds, group.sessions),
        ),
    )
}  # fmt: skip


def of_clicks() -> dict[str, Measure]:
    """Measures of masks by name."""
    return {name: measure for name, measure in MEASURES.items() if measure.of_mask is not None}


def of_objects() -> list[Measure]:
    """Measures that an object has by itself."""
    return [measure for measure in MEASURES.values() if measure.of_object is not None]


def measured(mask: np.ndarray, object_mask: np.ndarray, ignore_mask: np.ndarray, *, costly: bool) -> dict[str, float]:
    """Measure a mask by what is `costly`, or by what is not; all bool (h, w). What is undefined is missing."""
    values = {
        name: measure.after(mask, object_mask, ignore_mask)
        for name, measure in of_clicks().items()
        if measure.costly == costly
    }
    return {name: value for name, value in values.items() if value is not None}
