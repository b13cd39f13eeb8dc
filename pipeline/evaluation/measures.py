"""The measures of an evaluation. An entry in MEASURES adds one to rows, files, tables, comparisons, pages and sweeps.

A measure of masks (`per_click`) has a value after each click, and therefore a mean after the first k clicks. A measure
of sessions is a function of an object's row (`of_object`), or of all rows together (`of_all`).
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
"""(mask, object mask, ignored pixels), bool (h, w) each -> value; nan if it is undefined."""
HEADINGS = {
    "at_clicks": "{label}&{at}",
    "further_clicks": "m{label}@{at}+",
    "qualities": "{label}{more}@{percent}",
    "": "{label}",
}
COLUMNS = {"at_clicks": "{name}_after_{at}", "further_clicks": "{name}_{at}", "qualities": "{name}_{at}", "": "{name}"}


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows that are averaged together: those of one data set, refinement and robot user, or some of them."""

    rows: Sequence[ObjectRow]
    max_clicks: int
    seconds: float = 0.0
    """Time that the clicks of these rows took."""
    by_category: bool = False
    """Whether a sample is a category in an image instead of an image."""

    @property
    def sessions(self) -> list[list[float]]:
        """The IoUs of each row."""
        return [row.ious for row in self.rows]


OfAll = Callable[[Group, float], float | None]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measure, and how it is shown. In its methods, `at` is a value of its grid: a number of clicks, or an IoU."""

    name: str
    label: str
    key: str
    """Key in summary.json."""
    grid: Grid = ""
    """The protocol's field with the values that it is given for; "": it is a single number."""
    better: Better = "higher"
    """Which direction is better; "": no value is marked as the best."""
    form: str = ".3f"
    undefined: float | Literal["max_clicks"] | None = None
    """Value that counts if an object has none; None: such objects are left out."""
    of_mask: OfMask | None = None
    costly: bool = False
    """Extra work: measured only if the protocol has `boundaries`, after the clicks `at_clicks` and the last one."""
    of_object: Callable[[ObjectRow, float, int], float | None] | None = None
    """(row, at, max_clicks) -> value. Without it the measure has no column in objects.csv and is not compared."""
    of_all: OfAll | None = None
    """Value of a group of rows; None: the mean of `of_object`."""
    heading: str = ""
    """Heading of its columns in tables; "": the grid's usual one."""
    column: str = ""
    """Name of its columns in objects.csv; "": the grid's usual one."""
    printed: Literal["each", "last", ""] = "each"
    """Whether the terminal's table and MLflow show it: at each value of the grid, at the last, or ("") not at all."""
    page: Page = "results"
    """Which table of the report shows it; "": none."""

    def after(self, mask: np.ndarray, object_mask: np.ndarray, ignore_mask: np.ndarray) -> float | None:
        """Measure a mask; all masks are bool (h, w). None: it is undefined."""
        assert self.of_mask is not None
        assert self.undefined != "max_clicks"
        value = self.of_mask(mask, object_mask, ignore_mask)
        return self.undefined if np.isnan(value) else float(value)

    def of(self, row: ObjectRow, at: float, max_clicks: int) -> float | None:
        """Return an object's value, with `undefined` applied; None: the object is left out."""
        assert self.of_object is not None
        value = self.of_object(row, at, max_clicks)
        return value if value is not None else max_clicks if self.undefined == "max_clicks" else self.undefined

    def over(self, group: Group, at: float) -> float | None:
        """Return the value of a group of rows; None if no row has one."""
        if self.of_all is not None:
            return self.of_all(group, at)
        return metrics.mean_of_known(self.of(row, at, group.max_clicks) for row in group.rows)

    def summary(self, group: Group, config: EvaluationConfig) -> Any:
        """Return the entry for summary.json: values by `at` if the measure has a grid, otherwise one value."""
        if not self.grid:
            return self.over(group, 0)
        return {self.text(at): self.over(group, at) for at in getattr(config, self.grid)}

    def read(self, summary: Mapping[str, Any]) -> dict[str, float | None]:
        """Return a summary's values by `at` ("" without a grid); those that the summary lacks are missing."""
        found = summary.get(self.key)
        return found or {} if self.grid else {"": found}

    def text(self, at: float) -> str:
        """Format `at` as in files."""
        return f"{at:.2f}" if self.grid == "qualities" else str(at)

    def title(self, at: float, max_clicks: int = 20) -> str:
        """Return the title of a column: NoC@90 for up to 20 clicks, NoC100@90 for more (here 100)."""
        more = max_clicks if max_clicks > 20 else ""
        words = {"label": self.label, "at": f"{at:g}", "percent": round(at * 100), "more": more, "most": max_clicks}
        return (self.heading or HEADINGS[self.grid]).format(**words)

    def flat_key(self, at: str) -> str:
        """Return the flat name of one of a summary's numbers, such as noc_90 or iou_at_5."""
        number = str(round(100 * float(at))) if self.grid == "qualities" else at
        return f"{self.key}_{number}" if self.grid else self.key

    def column_of(self, at: str) -> str:
        """Return the name of a column in objects.csv."""
        return (self.column or COLUMNS[self.grid]).format(name=self.name, at=at)


def per_click(name: str, label: str, of_mask: OfMask, **more: Any) -> Measure:
    """Make a measure of masks; `more`: further fields of Measure."""

    def of_object(row: ObjectRow, at: float, max_clicks: int) -> float | None:
        return metrics.at_click(row.values(name), int(at))

    return Measure(
        name=name, label=label, key=f"{name}_at", grid="at_clicks", of_mask=of_mask, of_object=of_object, **more
    )


def per_quality(
    name: str, label: str, of_all: OfAll, *, form: str = "d", page: Page = "failures", **more: Any
) -> Measure:
    """Make a measure for each IoU to reach, where lower is better; `more`: further fields of Measure."""
    return Measure(
        name=name, label=label, key=name, grid="qualities", of_all=of_all, better="lower", form=form, page=page, **more
    )


def of_ious(count: Callable[[Sequence[Sequence[float]], float, int], float]) -> OfAll:
    """Turn a function of (IoUs of all sessions, quality, max_clicks) into one of a group of rows."""
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
    """Return the measures of masks, by name."""
    return {name: measure for name, measure in MEASURES.items() if measure.of_mask is not None}


def of_objects() -> list[Measure]:
    """Return the measures that each object has."""
    return [measure for measure in MEASURES.values() if measure.of_object is not None]


def measured(mask: np.ndarray, object_mask: np.ndarray, ignore_mask: np.ndarray, *, costly: bool) -> dict[str, float]:
    """Measure a mask with all measures that are `costly`, or with all others; undefined values are missing.

    All masks are bool (h, w).
    """
    values = {
        name: measure.after(mask, object_mask, ignore_mask)
        for name, measure in of_clicks().items()
        if measure.costly == costly
    }
    return {name: value for name, value in values.items() if value is not None}
