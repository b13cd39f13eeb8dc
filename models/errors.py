"""Errors meant for people: what was given, what was expected, what to do. The jobs print them without a traceback."""

import difflib
import errno
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")
FULL = ("No space left on device", "disk is full", "Disk quota exceeded")
"""What libraries say of a full disk that pass the system's number on as a text, or not at all."""


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


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk has no room left."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or any(text in str(error) for text in FULL)


def find_input_error(error: BaseException) -> InputError | None:
    """Find the InputError that an error is or was raised from; None if there is none.

    A disk that was full for what others write (MLflow, Ray) counts as one.
    """
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__
    for each in chain:
        # A kind of it that a library made to carry ours elsewhere says where it was raised, too.
        if type(each) is InputError:
            return each
    full = [str(each) for each in chain if is_full(each)]
    if not full:
        return None
    lines = [line.strip() for line in full[-1].splitlines() if any(text in line for text in FULL)]
    return InputError(f"a disk is full ({(lines or full)[-1]}): make room and run the same command again")
