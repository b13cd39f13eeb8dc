"""Errors meant for people: what was given, what was expected, what to do. The jobs print them without a traceback."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")


class InputError(ValueError):
    """Tell the user that what was given cannot be used; the message stands alone."""


def unknown(kind: str, given: str, known: Iterable[str]) -> InputError:
    """Build the error for a name that is in no registry, with the nearest known name as a suggestion."""
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1)
    hint = f" did you mean {close[0]!r}?" if close else ""
    return InputError(f"unknown {kind} {given!r};{hint} known: {', '.join(names)}")


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Fetch `name` from a registry; raises InputError with a suggestion if it is not there."""
    if name not in table:
        raise unknown(kind, name, table)
    return table[name]
