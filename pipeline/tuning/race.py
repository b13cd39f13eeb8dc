"""Which settings go on to more objects: a race in rungs, decided by paired comparisons on the same objects. Pure.

Each object's loss under a setting is compared with the leader's on that object: objects differ far more from each
other than settings do, and the pairing takes that out. Two things end a setting's race: it is shown to be worse than
the leader (the one-sided interval of the mean paired difference is above zero), or more settings are left than the next
rung has room for and it is among those with the worst standardised difference (successive halving, but by paired
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
    """How hard the race is."""

    called = "race"

    rungs: Annotated[tuple[Annotated[float, Above(0), AtMost(1)], ...], Rising()] = (0.1, 0.2, 0.4, 1.0)
    """Parts of the objects after which settings are compared; 1.0: no race, everything is played."""
    keep: Annotated[float, Above(0), AtMost(1)] = 0.5
    """Part of the settings that a rung lets through at most; 1: only what is shown to be worse is dropped."""
    level: Annotated[float, AtLeast(0.5), Below(1)] = 0.95
    """Confidence with which a setting has to be shown worse."""
    least: Annotated[int, AtLeast(2)] = 3
    """Fewest objects of a rung."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        if len(set(self.rungs)) < len(self.rungs) or self.rungs[-1:] != (1,):
            raise InputError(f"race.rungs is {self.rungs}: expected rising parts of the objects, the last one 1.0")

    def sizes(self, num_objects: int) -> list[int]:
        """Objects that a setting has played at the end of each rung."""
        least = min(self.least, num_objects)
        sizes = [max(least, math.ceil(part * num_objects)) for part in self.rungs]
        return sorted(dict.fromkeys(sizes))


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Who goes on, in the order of the race, and why the others do not."""

    on: list[str]
    dropped: dict[str, str]


def judge(
    losses: Mapping[str, Sequence[float]],
    config: RaceConfig,
    *,
    immune: str | None = None,
    costs: Mapping[str, float] | None = None,
) -> Verdict:
    """Compare settings that played the same objects; `losses[setting][k]` is that of object k, low is good.

    The leader has the least mean loss. `immune` (the default, which everything is compared with in the end) is never
    dropped and takes no room. With `costs` each setting's leader is the best of those that cost no more.
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
            dropped[name] = f"shown worse than the leader ({behind[name]:.1f} standard errors)"
        elif taken >= room and behind[name] > 0:
            dropped[name] = f"no room: {behind[name]:.1f} standard errors behind the leader"
        else:
            on.append(name)
            taken += 1
    return Verdict(on=on, dropped=dropped)


def _behind(differences: np.ndarray) -> float:
    """Mean paired difference in standard errors; with the error of a difference on each object at its least.

    Objects on which two settings do the same say little about how much they may differ elsewhere: one object is counted
    as if it differed by the mean size of those that do.
    """
    mean = float(differences.mean())
    if not differences.any():
        return 0.0
    num = len(differences)
    spread = float(np.abs(differences[differences != 0]).mean())
    variance = (float(((differences - mean) ** 2).sum()) + spread**2) / num
    return mean / math.sqrt(variance / num)


def _one_sided(level: float, num_objects: int) -> float:
    """Standard errors beyond which a mean of so many is above zero with this confidence (Student's t)."""
    from scipy.stats import t

    return float(t.ppf(level, num_objects - 1)) if num_objects > 1 else math.inf
