"""A session as a value: what every mask of it depends on, and nothing else. It travels as JSON, never as pickle."""

import json
from dataclasses import dataclass, replace

from models.interaction import Click
from models.rle import Rle


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One accepted change: "click", "undo", "redo" or "clear"."""

    kind: str
    click: Click | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionValue:
    """One session. `history[:position]` are the clicks in force; `used_at` in seconds of the store's clock."""

    id: str
    image_sha256: str
    hw: tuple[int, int]
    model_version: str
    used_at: float
    initial_mask: Rle | None = None
    history: tuple[Click, ...] = ()
    position: int = 0
    sequence: int = 0
    last_change: Change | None = None

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The clicks in force."""
        return self.history[: self.position]

    @property
    def num_redo(self) -> int:
        """Undone clicks that redo can bring back."""
        return len(self.history) - self.position

    def after(self, change: Change, history: tuple[Click, ...], position: int) -> "SessionValue":
        """The value once a change is made."""
        return replace(self, history=history, position=position, sequence=self.sequence + 1, last_change=change)

    def to_json(self) -> str:
        """All but `used_at`, which the store keeps beside it."""
        last = self.last_change
        return json.dumps(
            {
                "id": self.id,
                "image_sha256": self.image_sha256,
                "hw": self.hw,
                "model_version": self.model_version,
                "initial_mask": self.initial_mask,
                "history": [_row(click) for click in self.history],
                "position": self.position,
                "sequence": self.sequence,
                "last_change": None if last is None else {"kind": last.kind, "click": last.click and _row(last.click)},
            }
        )

    @staticmethod
    def from_json(text: str, used_at: float) -> "SessionValue":
        """Undo `to_json`."""
        plain = json.loads(text)
        last = plain["last_change"]
        if last is not None:
            last = Change(kind=last["kind"], click=None if last["click"] is None else _click(last["click"]))
        known = {**plain, "hw": tuple(plain["hw"]), "history": tuple(_click(row) for row in plain["history"])}
        return SessionValue(**{**known, "last_change": last, "used_at": used_at})


def _row(click: Click) -> list[float | bool]:
    return [click.y, click.x, click.positive]


def _click(row: list[float | bool]) -> Click:
    y, x, positive = row
    return Click(y=float(y), x=float(x), positive=bool(positive))
