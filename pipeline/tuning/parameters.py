"""Read a sweep's parameters from the command line, and convert them for the sweep's record."""

import dataclasses
import json
from typing import Any

from models.errors import InputError
from models.parameters import Choice, Parameter, Range


def parse(text: str) -> Parameter:
    """Parse a parameter: one value, `A,B,C` to choose from, or a range `LOW..HIGH`.

    Values are JSON (0.5, true, null, "all"); anything else is taken as a string without quotes. A range between
    integers contains integers only. Raises InputError for an empty text or an invalid range.
    """
    if not text.strip():
        raise InputError("a parameter has no values: expected one value, several as A,B,C, or a range as LOW..HIGH")
    low, dots, high = text.partition("..")
    if dots:
        ends = _value(low), _value(high)
        if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
            raise InputError(f"{text!r} is not a range: expected numbers, such as 0..8 or 0.1..0.5")
        return Range(*ends)
    return Choice(tuple(_value(part) for part in _parts(text)))


def _parts(text: str) -> list[str]:
    """Split at commas outside brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None if text.strip() == "None" else {"True": True, "False": False}.get(text.strip(), text.strip())


def as_json(parameter: Parameter) -> dict[str, Any]:
    """Convert a parameter to plain values, for a sweep's record."""
    return {"kind": type(parameter).__name__, **dataclasses.asdict(parameter)}
