"""Errors for users: what was given, what was expected, what to do. The jobs print them without a traceback."""

import difflib
import errno
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")
FULL = ("No space left on device", "disk is full", "Disk quota exceeded")
"""Messages of libraries about a full disk that give the error number as text or omit it."""


class InputError(ValueError):
    """The user's input cannot be used; the message is complete without a traceback."""


def unknown(kind: str, given: str, known: Iterable[str]) -> InputError:
    """Build the error for an unregistered name, with the nearest known name as a suggestion."""
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1)
    hint = f" did you mean {close[0]!r}?" if close else ""
    return InputError(f"unknown {kind} {given!r};{hint} known: {', '.join(names)}")


def lookup(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Look `name` up in a registry; raises InputError with a suggestion if it is missing."""
    if name not in table:
        raise unknown(kind, name, table)
    return table[name]


def is_full(error: BaseException) -> bool:
    """Whether an error reports a full disk."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(text in str(error) for text in FULL)


def find_input_error(error: BaseException) -> InputError | None:
    """Find the InputError that an error is or was raised from; None if there is none.

    A full disk that another library reports (MLflow, Ray) becomes an InputError too.
    """
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__
    for each in chain:
        # A library that carries the error to another process wraps it in a subclass whose text adds the origin.
        if type(each) is InputError:
            return each
    full = [str(each) for each in chain if is_full(each)]
    if not full:
        return None
    lines = [line.strip() for line in full[-1].splitlines() if any(text in line for text in FULL)]
    return InputError(f"a disk is full ({(lines or full)[-1]}): make room and run the same command again")
