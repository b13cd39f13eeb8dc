"""A session as a value: exactly what its masks depend on. It is stored and sent as JSON, never as pickle."""

import json
from dataclasses import dataclass, fields, replace
from typing import Any

from models.errors import InputError
from models.interaction import Click, check_click
from models.rle import Rle
from serve.core.problems import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemplar:
    """A finished object that shows what to find: its mask and the clicks that made it."""

    mask: Rle
    clicks: tuple[Click, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """What a mask depends on besides image and clicks. None means the default of the server or the model."""

    model: str | None = None
    """Name of a model of this server."""
    refinement: str | None = None
    mask_threshold: float | None = None
    initial_mask: Rle | None = None
    exemplar: Exemplar | None = None
    bit_depth: int = 16
    """Bits that the values of a 16-bit image use, as configured when the session was opened (models/decoding.py).
    Sessions stored before this field existed used 16, and keep their masks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A finished object: its mask, and the inputs that made it, so that it can be edited again."""

    number: int
    mask: Rle
    label: str = ""
    clicks: tuple[Click, ...] = ()
    initial_mask: Rle | None = None
    exemplar: Exemplar | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One accepted change: "click", "undo", "redo", "clear", "settings", "finish", "edit", "drop", "recall", "add"."""

    kind: str
    click: Click | None = None
    number: int | None = None
    """Number of the finished object that is edited, dropped or recalled."""
    label: str = ""
    parts: bool = False
    """Finish each connected component as a separate object."""
    added: Finished | None = None
    """A finished object that was made elsewhere; its number is ignored."""
    refinement: str | None = None
    mask_threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionValue:
    """One session. `history[:position]` are the current clicks; `used_at` is in seconds of the store's clock.

    `owner`: name of the token that opened it; None if the server required no token.
    """

    id: str
    image_sha256: str
    hw: tuple[int, int]
    model_version: str
    used_at: float
    basis: Basis = Basis()
    history: tuple[Click, ...] = ()
    position: int = 0
    sequence: int = 0
    last_change: Change | None = None
    objects: tuple[Finished, ...] = ()
    next_number: int = 1
    owner: str | None = None

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The current clicks, without the undone ones."""
        return self.history[: self.position]

    @property
    def num_redo(self) -> int:
        """Number of undone clicks that redo can restore."""
        return len(self.history) - self.position

    def after(self, change: Change, **changed: Any) -> "SessionValue":
        """Return the value after a change."""
        return replace(self, sequence=self.sequence + 1, last_change=change, **changed)

    def to_json(self) -> str:
        """Return JSON of everything except `used_at`, which the store keeps separately."""
        plain = _plain(self)
        del plain["used_at"]
        return json.dumps(plain)

    @staticmethod
    def from_json(text: str, used_at: float) -> "SessionValue":
        """Read what `to_json` wrote, also by earlier versions."""
        plain = json.loads(text)
        if "basis" not in plain:  # written by a server that had one object per session and no settings
            plain |= {"basis": {"initial_mask": plain.pop("initial_mask")}, "objects": []}
        return SessionValue(
            **{
                **plain,
                "hw": tuple(plain["hw"]),
                "history": _clicks(plain["history"]),
                "basis": _basis(plain["basis"]),
                "last_change": None if plain["last_change"] is None else _change(plain["last_change"]),
                "objects": tuple(_finished(each) for each in plain["objects"]),
                "used_at": used_at,
            }
        )


def check_wire_click(click: Click, hw: tuple[int, int]) -> None:
    """Raise Problem bad_click unless the click lies on the image of (height, width)."""
    try:
        check_click(click.y, click.x, hw)
    except InputError as error:
        inside = 0 <= click.x <= hw[1] - 1
        raise Problem("bad_click", str(error), "/y" if inside else "/x") from None


def _plain(value: Any) -> Any:
    """Convert a record of this module to JSON types: clicks become rows, other records objects by field."""
    if isinstance(value, Click):
        return [value.y, value.x, value.positive]
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, SessionValue | Basis | Exemplar | Finished | Change):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return value


def _click(row: list[float | bool]) -> Click:
    y, x, positive = row
    return Click(y=float(y), x=float(x), positive=bool(positive))


def _clicks(rows: list[list[float | bool]]) -> tuple[Click, ...]:
    return tuple(_click(row) for row in rows)


def _exemplar(plain: dict[str, Any] | None) -> Exemplar | None:
    return None if plain is None else Exemplar(mask=plain["mask"], clicks=_clicks(plain["clicks"]))


def _basis(plain: dict[str, Any]) -> Basis:
    return Basis(**{**plain, "exemplar": _exemplar(plain.get("exemplar"))})


def _change(plain: dict[str, Any]) -> Change:
    added = plain.get("added")  # unknown to older servers
    read = {
        "click": None if plain["click"] is None else _click(plain["click"]),
        "added": None if added is None else _finished(added),
    }
    return Change(**{**plain, **read})


def _finished(plain: dict[str, Any]) -> Finished:
    return Finished(**{**plain, "clicks": _clicks(plain["clicks"]), "exemplar": _exemplar(plain["exemplar"])})
