"""What may vary in a sweep: values to choose from, or a range; each knows its grid, how to be drawn and how to be read.

Values are plain JSON: numbers, texts, booleans, lists, None.
"""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from models.errors import InputError


@dataclass(frozen=True)
class Choice:
    """One of some values, alike in odds; `grid`: those that a grid tries, all of them if not given."""

    values: tuple[Any, ...]
    grid: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if not self.values:
            raise InputError("a parameter without values: expected at least one")

    def points(self) -> tuple[Any, ...]:
        """Values that a grid tries."""
        return self.grid or self.values

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw a value."""
        return self.values[rng.integers(len(self.values))]

    def suggest(self, trial: Any, name: str) -> Any:
        """Let an Optuna trial choose; it knows texts alone, so that lists and None may be values."""
        return json.loads(trial.suggest_categorical(name, [json.dumps(value) for value in self.values]))


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included; whole if both are and `whole` is not False; `log`: by magnitude."""

    low: float
    high: float
    grid: tuple[Any, ...] = ()
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high or (self.log and self.low <= 0):
            raise InputError(
                f"a range from {self.low} to {self.high}: expected low <= high, and above 0 if logarithmic"
            )

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def points(self) -> tuple[Any, ...]:
        """Values that a grid tries: its own, all whole numbers of a short range, or three."""
        if self.grid:
            return self.grid
        if self.whole and self.high - self.low <= 8:
            return tuple(range(int(self.low), int(self.high) + 1))
        ends = np.geomspace(self.low, self.high, 3) if self.log else np.linspace(self.low, self.high, 3)
        return tuple(dict.fromkeys(round(end) if self.whole else float(f"{end:.6g}") for end in ends))

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw a value."""
        if self.whole:
            return int(rng.integers(int(self.low), int(self.high) + 1))
        if self.log:
            return float(np.exp(rng.uniform(np.log(self.low), np.log(self.high))))
        return float(rng.uniform(self.low, self.high))

    def suggest(self, trial: Any, name: str) -> Any:
        """Let an Optuna trial choose."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


Parameter: TypeAlias = Choice | Range


def fixed(value: Any) -> Choice:
    """One value."""
    return Choice((value,))


def parse(text: str) -> Parameter:
    """Read a parameter from the command line: one value, `A,B,C` to choose from, or a range `LOW..HIGH`.

    Values are JSON (0.5, true, null, "all"), and texts without quotes where that is no JSON; a range of whole numbers
    has whole numbers. Raises InputError for an empty text or a range that is none.
    """
    if not text.strip():
        raise InputError("a parameter without values: expected one, several as A,B,C, or a range as LOW..HIGH")
    low, dots, high = text.partition("..")
    if dots:
        ends = _value(low), _value(high)
        if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
            raise InputError(f"{text!r} is no range: expected numbers, such as 0..8 or 0.1..0.5")
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
    """Plain values, for a sweep's record."""
    return {"kind": type(parameter).__name__, **dataclasses.asdict(parameter)}
