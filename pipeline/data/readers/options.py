"""Convert `--option name=text` of a command line to the typed fields of a reader."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from models.errors import InputError, unknown
from models.records import expected

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _to_bool(text: str) -> bool:
    return _WORDS[text.strip().lower()]


def _to_range(text: str) -> tuple[int, int]:
    first, _, last = text.partition(",")
    return int(first), int(last or first)


# How the text of a field is converted, by its annotation.
_CONVERTERS: dict[Any, Callable[[str], Any]] = {
    str: str,
    int: int,
    float: float,
    bool: _to_bool,
    tuple[int, int]: _to_range,
}


def _converter(kind: Any) -> Callable[[str], Any]:
    if get_origin(kind) is Literal:
        return {str(word): word for word in get_args(kind)}.__getitem__
    return _CONVERTERS[kind]


def _expected(kind: Any) -> str:
    return "a whole number or a range such as 3,6" if kind == tuple[int, int] else expected(kind)


def option_fields(cls: type[Any]) -> dict[str, Any]:
    """Map the option names of a reader class to their types: all its fields except root, split and decoding."""
    hints = get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.name not in ("root", "split", "decoding")}


def convert_options(reader: str, cls: type[Any], options: Mapping[str, str]) -> dict[str, Any]:
    """Convert option texts to the types of the fields; InputError for an unknown name or a text that does not fit."""
    hints = option_fields(cls)
    converted: dict[str, Any] = {}
    for name, text in options.items():
        if name not in hints:
            raise unknown(f"option of reader {reader!r}", name, hints)
        try:
            converted[name] = _converter(hints[name])(text)
        except (ValueError, KeyError) as error:
            raise InputError(
                f"option {name}={text!r} of reader {reader!r}: expected {_expected(hints[name])}"
            ) from error
    return converted
