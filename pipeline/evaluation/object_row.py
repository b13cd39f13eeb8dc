"""The result of one object under one predictor: its clicks, and the measures after each of them."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

Key = tuple[str, str, str]
"""Identifies a group of results: data set, refinement (or baseline), robot user."""


@dataclass(frozen=True, kw_only=True)
class ObjectRow:
    """The session of one object under one refinement; `mask` is its last mask, as COCO RLE counts at the image's size.

    `measured` holds a value per click for each measure, by name: None where the measure has no value. Files of earlier
    versions may lack measures. `clicks` are those of the session; clicks that the task gave free are not included.
    `num_honoured` is the number of clicks after which the mask had their sign at their pixel; `counts` says what the
    refinements did (State.counts).
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
        """IoU after each click; always measured."""
        return cast(list[float], self.measured["iou"])

    @property
    def key(self) -> Key:
        """The group of results that the row belongs to: data set, refinement and robot user."""
        return self.dataset, self.refinement, self.policy

    def values(self, name: str) -> list[float | None]:
        """Return a measure's value after each click; empty if the row comes from a version without the measure."""
        return self.measured.get(name, [])

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values; those of a measure are under its name with an s."""
        plain = dataclasses.asdict(self)
        measured = plain.pop("measured")
        return plain | {column(name): values for name, values in measured.items()}

    @staticmethod
    def from_json(plain: dict[str, Any]) -> "ObjectRow":
        """Rebuild a row from JSON or Parquet values; names that are not fields of ObjectRow are measures."""
        known = {name: value for name, value in plain.items() if name in FIELDS}
        clicks = [tuple(click.values() if isinstance(click, dict) else click) for click in known.pop("clicks")]
        measured = {name.removesuffix("s"): values for name, values in plain.items() if name not in FIELDS and values}
        return ObjectRow(**known, clicks=clicks, measured=measured)


FIELDS = {each.name for each in dataclasses.fields(ObjectRow)}


def column(name: str) -> str:
    """Return the name of a measure's list of values in rows on disk."""
    return f"{name}s"


def by_key(rows: Sequence[ObjectRow]) -> dict[Key, list[ObjectRow]]:
    """Group rows by data set, refinement and robot user, in the order in which these appear."""
    groups: dict[Key, list[ObjectRow]] = {}
    for row in rows:
        groups.setdefault(row.key, []).append(row)
    return groups
