"""Store configs as plain values, and compare a stored config with a new one.

A field that the stored config lacks counts as its default, so runs of earlier versions can be resumed.
"""

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from models.records import Record, defaults_of, read
from models.storage import without_key

T = TypeVar("T")
MOST_NAMED, MOST_SHOWN = 5, 60
_ABSENT = object()


class Settings(dict[str, Any]):
    """The settings that decide a job's results, as plain values to store with them.

    They are the fields of `config`, except those that `without` names (these may change while the job is interrupted),
    and the entries of `more`. `added` holds the defaults of entries that `more` lacked in earlier versions. The inputs
    are kept so that `differences` knows the defaults.
    """

    def __init__(
        self,
        config: Any,
        *,
        without: tuple[str, ...] = (),
        more: Mapping[str, Any] | None = None,
        added: Mapping[str, Any] | None = None,
    ) -> None:
        own = {name: part for name, part in (_parts(config) or {}).items() if name not in without}
        self.config, self.without, self.parts = config, without, {**own, **(more or {})}
        self.added = dict(added or {})
        super().__init__(as_dict(self.parts))


def as_dict(config: Any) -> dict[str, Any]:
    """Convert a config to plain values for JSON and MLflow; access keys are removed from addresses."""
    return _without_keys(json.loads(json.dumps(config, default=_plain)))


def from_dict(kind: type[T], plain: Mapping[str, Any]) -> T:
    """Rebuild a config dataclass from `as_dict`; raises InputError for values that do not fit it."""
    return read(kind, plain)


def differences(saved: Any, given: Any) -> str:
    """Describe how a stored config (its `as_dict`) differs from `given`, with both values; "" if it does not.

    `given` is a config, Settings, or a mapping of configs and plain values. A field that `saved` lacks was added by a
    later version and counts as its default, at any depth. A field that this version does not know is a difference.
    """
    found = list(_differences(saved, given, ""))
    left = len(found) - MOST_NAMED
    return "; ".join(found[:MOST_NAMED]) + (f"; and {left} more" if left > 0 else "")


def _differences(saved: Any, given: Any, at: str) -> typing.Iterator[str]:
    if given is _ABSENT:
        yield f"{at}: saved {_in_short(saved)}, unknown to this version"
        return
    if saved is _ABSENT:
        yield f"{at}: given {_in_short(as_dict(given))}, not saved"
        return
    parts = _parts(given)
    if parts is None or not isinstance(saved, Mapping):
        plain = as_dict(given)
        if saved != plain:
            yield f"{at or 'all'}: given {_in_short(plain)}, saved {_in_short(saved)}"
        return
    defaults = _defaults(given)
    ignored = given.without if isinstance(given, Settings) else ()
    for name in dict.fromkeys((*parts, *saved)):
        if name not in ignored:
            was, now = saved.get(name, defaults.get(name, _ABSENT)), parts.get(name, _ABSENT)
            yield from _differences(was, now, f"{at}.{name}" if at else name)


def _parts(value: Any) -> dict[str, Any] | None:
    """Return the named parts of a config, of Settings or of a mapping; None for any other value."""
    if isinstance(value, Settings):
        return value.parts
    if isinstance(value, Record):
        return value.named_parts()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    return dict(value) if isinstance(value, Mapping) else None


def _defaults(value: Any) -> dict[str, Any]:
    """Return the defaults of a config's fields, for those that have one."""
    config = value.config if isinstance(value, Settings) else value
    found: dict[str, Any] = dict(value.added) if isinstance(value, Settings) else {}
    if isinstance(config, Record):
        found |= config.usual_parts()
    elif dataclasses.is_dataclass(config):
        found |= defaults_of(type(config))
    return as_dict(found)


def _in_short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def _plain(value: Any) -> Any:
    parts = _parts(value)
    return str(value) if parts is None else parts


def _without_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_keys(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [_without_keys(entry) for entry in value]
    return without_key(value) if isinstance(value, str) and "://" in value else value
