"""Records: frozen dataclasses that check the types and ranges of their fields and can be read from plain values.

A record inherits `Record` and annotates ranges: `steps: Annotated[int, AtLeast(0)] = 4`.
"""

import dataclasses
import difflib
import numbers
import operator
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, Union

from models.errors import InputError, unknown

T = TypeVar("T")
NUMBERS = {int: numbers.Integral, float: numbers.Real}
WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "none"}


@dataclass(frozen=True)
class Bound:
    """A limit of a number; NaN satisfies none."""

    limit: float
    sign: typing.ClassVar[str]
    holds: typing.ClassVar[Callable[[Any, float], bool]]

    def fits(self, value: Any) -> bool:
        """Whether a number satisfies the limit."""
        return type(self).holds(value, self.limit)

    def __str__(self) -> str:
        return f"{self.sign} {self.limit}"


class AtLeast(Bound):
    """The number is at least this."""

    sign, holds = ">=", operator.ge


class Above(Bound):
    """The number is greater than this."""

    sign, holds = ">", operator.gt


class AtMost(Bound):
    """The number is at most this."""

    sign, holds = "<=", operator.le


class Below(Bound):
    """The number is less than this."""

    sign, holds = "<", operator.lt


class Rising:
    """The numbers of a tuple do not decrease."""

    def fits(self, value: Any) -> bool:
        """Whether the numbers do not decrease."""
        return list(value) == sorted(value)

    def __str__(self) -> str:
        return "in rising order"


Count = Annotated[int, AtLeast(0)]
Positive = Annotated[int, AtLeast(1)]
Fraction = Annotated[float, AtLeast(0), AtMost(1)]
Factor = Annotated[float, Above(0)]


class Record:
    """Base of frozen dataclasses that check their fields; an override of `__post_init__` calls this one first."""

    called: typing.ClassVar[str] = ""
    """Prefix of field names in messages; by default messages name the field alone."""

    @classmethod
    def label(cls, field: str) -> str:
        """Return the name of a field in messages."""
        return f"{cls.called}.{field}" if cls.called else field

    def named_parts(self) -> dict[str, Any]:
        """Return its values by name, as they are serialised; a record of parts may serialise differently."""
        return {name: getattr(self, name) for name in hints_of(type(self))}

    def usual_parts(self) -> dict[str, Any]:
        """Return the defaults of `named_parts`, which apply where a serialised record lacks a value."""
        return defaults_of(type(self))

    def __post_init__(self) -> None:
        """Check every field and convert NumPy's numbers to plain ones; raises InputError."""
        for name, hint in hints_of(type(self)).items():
            value = getattr(self, name)
            check(hint, value, self.label(name))
            if (number := plain(value)) is not value:
                object.__setattr__(self, name, number)


@cache
def hints_of(kind: type[Any]) -> dict[str, Any]:
    """Return the type of each field of a dataclass, with its range."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind) if field.init}


def defaults_of(kind: type[Any]) -> dict[str, Any]:
    """Return the defaults of those fields of a dataclass that have one."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
        elif field.default is not dataclasses.MISSING:
            found[field.name] = field.default
    return found


def plain(value: Any) -> Any:
    """Convert NumPy numbers, also inside tuples, to plain ones; return other values unchanged."""
    if isinstance(value, tuple):
        made = tuple(map(plain, value))
        return made if any(new is not old for new, old in zip(made, value, strict=True)) else value
    if isinstance(value, int | float) and type(value) in (int, float, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else value


def check(hint: Any, value: Any, path: str) -> None:
    """Raise InputError for a value of another type, as in "PATH is GIVEN: expected a whole number >= 0"."""
    if not fits(hint, value):
        words = [each for each in typing.get_args(hint) if isinstance(each, str)]
        close = difflib.get_close_matches(value, words, n=1) if isinstance(value, str) else []
        hinted = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"{path} is {value!r}: expected {expected(hint)}{hinted}")


def check_all(record: Any) -> None:
    """Check every field of a dataclass that is not a Record."""
    for name, hint in hints_of(type(record)).items():
        check(hint, getattr(record, name), name)


def fits(hint: Any, value: Any) -> bool:
    """Whether a value is of a type. An integer is accepted for a float; a bool is not a number."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        bounds = [each for each in args[1:] if isinstance(each, Bound | Rising)]
        return fits(args[0], value) and (value is None or all(each.fits(value) for each in bounds))
    if origin is Literal:
        return any(value == each and type(value) is type(each) for each in args)
    if origin in (Union, types.UnionType):
        return any(fits(arg, value) for arg in args)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        each = args[:1] * len(value) if args[-1] is Ellipsis else args
        return len(each) == len(value) and all(map(fits, each, value))
    kind = origin or hint
    if kind in NUMBERS:
        return isinstance(value, NUMBERS[kind]) and not isinstance(value, bool)
    return (kind is None and value is None) or not isinstance(kind, type) or isinstance(value, kind)


def expected(hint: Any) -> str:
    """Describe in words the values that a type with its range accepts."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        bounds = (str(each) for each in args[1:] if isinstance(each, Bound | Rising))
        return f"{expected(args[0])} {' and '.join(bounds)}".rstrip()
    if origin is Literal:
        return ", ".join(map(str, args[:-1])) + " or " * (len(args) > 1) + str(args[-1])
    if origin in (Union, types.UnionType):
        return " or ".join(expected(arg) for arg in args)
    if origin is tuple:
        inner = f"each {expected(args[0])}" if args[-1] is Ellipsis else ", ".join(map(expected, args))
        return f"a list ({inner})"
    if origin in (dict, Mapping) or dataclasses.is_dataclass(hint):
        return "an object with its settings"
    return WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def read(kind: type[T], values: Any, path: str = "") -> T:
    """Make a record from plain values (JSON: lists for tuples, objects for records); missing ones take the default.

    Raises InputError for an unknown name, with the nearest known one, and for values that a field does not accept.
    """
    path = path or getattr(kind, "called", "") or kind.__name__
    if not isinstance(values, Mapping):
        raise InputError(f"{path} is {values!r}: expected an object with its settings")
    hints = hints_of(kind)
    for name in values:
        if name not in hints:
            raise unknown(f"setting of {path}", str(name), hints)
    if missing := [name for name in hints if name not in values and name not in defaults_of(kind)]:
        raise InputError(f"{path} lacks {', '.join(missing)}: add it")
    return kind(**{name: _typed(hints[name], value, f"{path}.{name}") for name, value in values.items()})


def _typed(hint: Any, value: Any, path: str) -> Any:
    """Convert a plain value to the type of its field; a wrong type is left for the record's check."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _typed(args[0], value, path)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _typed(next((arg for arg in args if _takes(arg, value)), Any), value, path)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else read(hint, value, path)
    if isinstance(value, list) and list not in (hint, origin):
        if origin is not tuple:
            return tuple(value)
        each = args[:1] * len(value) if args[-1] is Ellipsis else (*args, *[Any] * (len(value) - len(args)))
        return tuple(_typed(arg, item, path) for arg, item in zip(each, value, strict=False))
    return value


def _takes(hint: Any, value: Any) -> bool:
    """Whether this one of several types is the one for a plain value."""
    if isinstance(value, Mapping):
        return dataclasses.is_dataclass(hint)
    takes_lists = hint is list or typing.get_origin(hint) in (list, tuple)
    return isinstance(value, list) == takes_lists and hint is not type(None)
