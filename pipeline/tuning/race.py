"""Decide which settings continue to more objects: a race in rungs, by paired comparisons on the same objects.

A setting's loss on each object is compared with the leader's loss on that object. Objects differ far more from each
other than settings do, and the pairing removes this variance. A setting is dropped in two cases: it is shown to be
worse than the leader (the one-sided interval of the mean paired difference is above zero), or more settings are left
than the next rung admits and it is among those with the worst standardised difference (successive halving, by paired
differences instead of raw means).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from models.errors import InputError
from models.records import Above, AtLeast, AtMost, Below, Record, Rising


@dataclass(frozen=True, kw_only=True)
class RaceConfig(Record):
    """Settings of the race: when settings are compared, and which are dropped."""

    called = "race"

    rungs: Annotated[tuple[Annotated[float, Above(0), AtMost(1)], ...], Rising()] = (0.1, 0.2, 0.4, 1.0)
    """Fractions of the objects after which settings are compared; 1.0 alone: no race, all settings play all objects."""
    keep: Annotated[float, Above(0), AtMost(1)] = 0.5
    """Largest fraction of the settings that continue after a rung; 1: drop only settings that are shown to be worse."""
    level: Annotated[float, AtLeast(0.5), Below(1)] = 0.95
    """Confidence required to show that a setting is worse than the leader."""
    least: Annotated[int, AtLeast(2)] = 3
    """Least number of objects in a rung."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        if len(set(self.rungs)) < len(self.rungs) or self.rungs[-1:] != (1,):
            raise InputError(f"race.rungs is {self.rungs}: expected rising fractions of the objects, the last one 1.0")

    def sizes(self, num_objects: int) -> list[int]:
        """Return the numbers of objects that a setting has played at the end of each rung."""
        least = min(self.least, num_objects)
        sizes = [max(least, math.ceil(part * num_objects)) for part in self.rungs]
        return sorted(dict.fromkeys(sizes))


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The settings that continue, best first, and the reasons why the others are dropped."""

    on: list[str]
    dropped: dict[str, str]


def judge(
    losses: Mapping[str, Sequence[float]],
    config: RaceConfig,
    *,
    immune: str | None = None,
    costs: Mapping[str, float] | None = None,
) -> Verdict:
    """Compare settings that played the same objects; `losses[setting][k]` is the loss on object k, lower is better.

    The leader has the lowest mean loss. `immune` (the default setting, with which all are compared in the end) is never
    dropped and does not count towards `config.keep`. With `costs`, a setting's leader is the best of those that cost no
    more.
    """
    lengths = {len(row) for row in losses.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(f"settings have played {sorted(lengths)} objects: expected the same number, at least 1")
    rows = {name: np.asarray(row, float) for name, row in losses.items()}
    means = {name: float(row.mean()) for name, row in rows.items()}
    leaders = {
        name: min((o for o in rows if costs is None or costs[o] <= costs[name]), key=lambda o: means[o])
        for name in rows
    }
    behind = {name: _behind(row - rows[leaders[name]]) for name, row in rows.items()}
    limit = _one_sided(config.level, lengths.pop())
    dropped: dict[str, str] = {}
    on: list[str] = []
    room, taken = max(1, math.ceil(config.keep * sum(name != immune for name in rows))), 0
    for name in sorted(rows, key=lambda name: (behind[name], means[name], name)):
        if name == immune:
            on.append(name)
        elif behind[name] > limit:
            dropped[name] = f"shown to be worse than the leader ({behind[name]:.1f} standard errors)"
        elif taken >= room and behind[name] > 0:
            dropped[name] = f"no room: {behind[name]:.1f} standard errors behind the leader"
        else:
            on.append(name)
            taken += 1
    return Verdict(on=on, dropped=dropped)


def _behind(differences: np.ndarray) -> float:
    """Return the mean paired difference in standard errors.

    Objects on which two settings agree say little about how much they may differ elsewhere. So the variance counts one
    more object, which differs by the mean absolute difference of those that do differ.
    """
    mean = float(differences.mean())
    if not differences.any():
        return 0.0
    num = len(differences)
    spread = float(np.abs(differences[differences != 0]).mean())
    variance = (float(((differences - mean) ** 2).sum()) + spread**2) / num
    return mean / math.sqrt(variance / num)


def _one_sided(level: float, num_objects: int) -> float:
    """Return how many standard errors above zero a mean must be for this confidence (Student's t)."""
    from scipy.stats import t

    return float(t.ppf(level, num_objects - 1)) if num_objects > 1 else math.inf
