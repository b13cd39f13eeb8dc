"""What may vary in a sweep: values to choose from, or a range; each knows its grid and how to be drawn.

Values are plain JSON: numbers, texts, booleans, lists, None.
"""

import json
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from models.errors import InputError


@dataclass(frozen=True)
class Choice:
    """One of some values, each as likely as the others; `grid`: those that a grid tries, all of them if not given."""

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
