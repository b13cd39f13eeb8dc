"""The outcome of a sweep: the result of every setting, the best one, and whether it beats the default."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.compare import paired_bootstrap
from pipeline.tuning.contest import PLAYED, Contest, Entry
from pipeline.tuning.objective import Objective

MOST_GROUPS = 8
"""Most distinct numbers that `importance` treats one by one; more are grouped into ranges."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A setting's result: the objective's mean on the objects played, and the paired difference to the default there.

    `low` and `high`: 95 % interval of the difference; None for fewer than 2 objects and for the default.
    """

    entry: Entry
    objects: int
    value: float
    seconds_per_click: float
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    estimate: float = 0.0
    """The objective on all objects: `value`, or for a dropped setting the default's value plus the difference."""

    def better(self, objective: Objective) -> bool:
        """Whether the interval shows that the setting is better than the default."""
        if self.low is None or self.high is None:
            return False
        return self.low > 0 if objective.high_is_good else self.high < 0


def standings(contest: Contest, seed: int = 0) -> list[Standing]:
    """Return every setting with a result, best first; those that played everything come before those dropped."""
    default = contest.entries[contest.default]
    best = contest.best()
    found = [_standing(contest, entry, default, seed) for entry in contest.entries.values() if entry.rows()]
    sign = -1 if contest.objective.high_is_good else 1
    return sorted(
        found,
        key=lambda s: (
            s.entry is not best,
            s.entry.status != PLAYED,
            sign * s.estimate,
            s.entry.asks_per_click,
            s.entry.name,
        ),
    )


def _standing(contest: Contest, entry: Entry, default: Entry, seed: int) -> Standing:
    sign = -1 if contest.objective.high_is_good else 1
    rows, most = entry.rows(), contest.max_clicks
    values = [sign * contest.objective.loss(row, most, spent) for row, spent in zip(rows, entry.spent(), strict=True)]
    plain = Standing(
        entry=entry,
        objects=len(rows),
        value=float(np.mean(values)),
        seconds_per_click=entry.seconds_per_click,
        estimate=float(np.mean(values)),
    )
    reference = [
        sign * contest.objective.loss(row, most, spent)
        for row, spent in zip(default.rows(), default.spent(), strict=True)
    ]
    if entry is default or len(values) < 2 or len(reference) < len(values):
        return plain
    a, b = np.asarray(reference[: len(values)]), np.asarray(values)
    low, high = paired_bootstrap(a, b, np.random.default_rng([seed, 77]))
    difference = float((b - a).mean())
    found = {"difference": difference, "low": low, "high": high, "estimate": float(np.mean(reference)) + difference}
    return Standing(**{**vars(plain), **found})


def verdict(found: Sequence[Standing], objective: Objective, num_objects: int) -> str:
    """State in one or two sentences whether the best setting beats the default."""
    best = found[0]
    if best.difference is None:
        return f"The default is the best of the settings tried: {objective.label} {best.value:.3f}."
    interval = f"{best.difference:+.3f} [{best.low:+.3f}, {best.high:+.3f}] against the default"
    if best.better(objective):
        return f"The best setting beats the default: {objective.label} {best.value:.3f}, {interval}."
    return (
        f"Nothing beats the default significantly. The best setting has {objective.label} {best.value:.3f}, "
        f"{interval} (95 % interval, {num_objects} objects), which may be chance: keep the default, or play more "
        "objects."
    )


def importance(contest: Contest) -> dict[str, float]:
    """Return the share of the variance between settings, by estimated loss, that each parameter explains alone.

    Parameters with many distinct numbers are cut into thirds or fifths. Parameters that interact explain more together
    than the sum of their shares.
    """
    entries = [e for e in contest.entries.values() if e.rows() and e.values]
    losses = np.array([contest.estimate(e)[0] for e in entries])
    names = list(dict.fromkeys(name for entry in entries for name in entry.values))
    names = [name for name in names if len({repr(entry.values.get(name)) for entry in entries}) > 1]
    if len(entries) < 2 or losses.var() == 0:
        return dict.fromkeys(names, 0.0)
    shares: dict[str, float] = {}
    for name in names:
        groups = _groups([entry.values.get(name) for entry in entries])
        within = sum(losses[groups == group].var() * (groups == group).sum() for group in np.unique(groups))
        shares[name] = float(1 - within / (losses.var() * len(losses)))
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _groups(values: Sequence[Any]) -> np.ndarray:
    different = list(dict.fromkeys(map(repr, values)))
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) == len(values) and len(different) > MOST_GROUPS:
        num = 5 if len(values) >= 25 else 3
        return np.searchsorted(np.quantile(numbers, np.arange(1, num) / num), numbers)
    return np.array([different.index(repr(value)) for value in values])


def forwards(contest: Contest) -> tuple[int, int]:
    """Return the requests to the network over all settings, and how many of them were computed."""
    pairs = [entry.forwards for entry in contest.entries.values()]
    return sum(asked for asked, _ in pairs), sum(computed for _, computed in pairs)
