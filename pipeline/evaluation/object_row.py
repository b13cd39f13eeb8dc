"""One object under one predictor: what was clicked, and what was measured after each click."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

Key = tuple[str, str, str]
"""What tells results apart: data set, refinement (or baseline), robot user."""


@dataclass(frozen=True, kw_only=True)
class ObjectRow:
    """One object under one refinement; `mask` is the last mask as COCO RLE counts of the image's size.

    `measured` holds a value per click by the name of the measure, None where there is none; files may lack measures
    that are newer. `clicks` are those that the values belong to; what a task gave free is not listed. `num_honoured`
    clicks left the mask with their sign at their pixel; `counts` is what refinements did (State.counts).
    """

    dataset: str
    refinement: str
    policy: str
    item: str
    object: str
    category: str = ""
    clicks: list[tuple[float, float, bool]]
    measured: dict[str, list[float | None]]
    num_honoured: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    height: int
    width: int
    mask: str

    @property
    def ious(self) -> list[float]:
        """IoU after each click, which is always known."""
        return cast(list[float], self.measured["iou"])

    @property
    def key(self) -> Key:
        """Data set, refinement and robot user."""
        return self.dataset, self.refinement, self.policy

    def values(self, name: str) -> list[float | None]:
        """What a measure was after each click; empty if it is newer than the row."""
        return self.measured.get(name, [])

    def to_json(self) -> dict[str, Any]:
        """Plain values, those of a measure under its name in the plural."""
        plain = dataclasses.asdict(self)
        measured = plain.pop("measured")
        return plain | {column(name): values for name, values in measured.items()}

    @staticmethod
    def from_json(plain: dict[str, Any]) -> "ObjectRow":
        """Rebuild a row from JSON or Parquet values; what is no field of a row is a measure."""
        known = {name: value for name, value in plain.items() if name in FIELDS}
        clicks = [tuple(click.values() if isinstance(click, dict) else click) for click in known.pop("clicks")]
        measured = {name.removesuffix("s"): values for name, values in plain.items() if name not in FIELDS and values}
        return ObjectRow(**known, clicks=clicks, measured=measured)


FIELDS = {each.name for each in dataclasses.fields(ObjectRow)}


def column(name: str) -> str:
    """Name of a measure's list of values in rows on disk."""
    return f"{name}s"


def by_key(rows: Sequence[ObjectRow]) -> dict[Key, list[ObjectRow]]:
    """Sort rows into one list per data set, refinement and robot user, in the order in which these appear."""
    groups: dict[Key, list[ObjectRow]] = {}
    for row in rows:
        groups.setdefault(row.key, []).append(row)
    return groups
