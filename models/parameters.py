"""Parameters of a sweep: a choice of values or a range, each with a grid and a random draw.

Values are plain JSON: numbers, strings, booleans, lists, None.
"""

import json
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from models.errors import InputError


@dataclass(frozen=True)
class Choice:
    """One of several equally likely values; `grid` lists the values that a grid tries (empty: all)."""

    values: tuple[Any, ...]
    grid: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if not self.values:
            raise InputError("the parameter has no values: expected at least one")

    def points(self) -> tuple[Any, ...]:
        """Return the values that a grid tries."""
        return self.grid or self.values

    def draw(self, rng: np.random.Generator) -> Any:
        """Draw a value."""
        return self.values[rng.integers(len(self.values))]

    def suggest(self, trial: Any, name: str) -> Any:
        """Let an Optuna trial choose a value; values are passed as JSON text, since Optuna takes no lists."""
        return json.loads(trial.suggest_categorical(name, [json.dumps(value) for value in self.values]))


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included; an integer if both are. `log` draws on a logarithmic scale."""

    low: float
    high: float
    grid: tuple[Any, ...] = ()
    log: bool = False

    def __post_init__(self) -> None:
        if not self.low <= self.high or (self.log and self.low <= 0):
            raise InputError(
                f"the range is {self.low} to {self.high}: expected low <= high, and low > 0 if it is logarithmic"
            )

    @property
    def whole(self) -> bool:
        """Whether the range holds integers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def points(self) -> tuple[Any, ...]:
        """Return the values that a grid tries: `grid`, all integers of a short range, or three evenly spaced values."""
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
        """Let an Optuna trial choose a value."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)


Parameter: TypeAlias = Choice | Range
