"""Searches: a grid, random settings, or Optuna. Settings come in generations.

The settings depend only on the seed and the reported losses, not on timing, so a resumed sweep gets the same ones.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from models.errors import InputError, lookup
from models.parameters import Parameter

Values = dict[str, Any]


class Search(Protocol):
    """A search that proposes settings in generations."""

    def ask(self, num: int) -> list[Values]:
        """Return up to `num` settings; none: the search is over."""
        ...

    def tell(self, values: Values, losses: Sequence[float]) -> None:
        """Report the losses of a setting of the last generation: the objective and the price; lower is better."""
        ...


class Grid:
    """All combinations of the parameters' grid points; with a limit, a random sample of them."""

    def __init__(self, space: Mapping[str, Parameter], limit: int, seed: int) -> None:
        combinations = itertools.product(*(parameter.points() for parameter in space.values()))
        every = [dict(zip(space, combination, strict=True)) for combination in combinations]
        if limit and limit < len(every):
            order = np.random.default_rng([seed, 1]).permutation(len(every))[:limit]
            every = [every[k] for k in sorted(order.tolist())]
        self._left = every

    def ask(self, num: int) -> list[Values]:
        """Return the next combinations."""
        now, self._left = self._left[:num], self._left[num:]
        return now

    def tell(self, values: Values, losses: Sequence[float]) -> None:
        """Ignore the losses."""


class Random:
    """Settings drawn from the whole ranges of the parameters."""

    def __init__(self, space: Mapping[str, Parameter], limit: int, seed: int) -> None:
        if not limit:
            raise InputError("a random search has no end: give the number of settings with --trials")
        self._space, self._left, self._rng = space, limit, np.random.default_rng([seed, 2])

    def ask(self, num: int) -> list[Values]:
        """Return the next draws."""
        num = min(num, self._left)
        self._left -= num
        return [{name: p.draw(self._rng) for name, p in self._space.items()} for _ in range(num)]

    def tell(self, values: Values, losses: Sequence[float]) -> None:
        """Ignore the losses."""


class Optuna:
    """Optuna's tree-structured Parzen estimator on two losses: it searches for their Pareto front."""

    def __init__(self, space: Mapping[str, Parameter], limit: int, seed: int) -> None:
        if not limit:
            raise InputError("Optuna's search has no end: give the number of settings with --trials")
        self._space, self._left, self._seed = space, limit, seed
        self._study: Any = None
        self._pending: list[tuple[Values, Any]] = []

    def _of(self, num_losses: int) -> Any:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler = optuna.samplers.TPESampler(seed=self._seed, n_startup_trials=8)
        directions: Any = ["minimize"] * num_losses
        return optuna.create_study(sampler=sampler, directions=directions)

    def ask(self, num: int) -> list[Values]:
        """Return settings that the estimator finds promising."""
        num = min(num, self._left)
        self._left -= num
        self._study = self._study or self._of(2)
        trials = [self._study.ask() for _ in range(num)]
        self._pending = [({name: p.suggest(t, name) for name, p in self._space.items()}, t) for t in trials]
        return [values for values, _ in self._pending]

    def tell(self, values: Values, losses: Sequence[float]) -> None:
        """Report both losses: the objective and the price."""
        for number, (asked, trial) in enumerate(self._pending):
            if asked == values:
                del self._pending[number]
                self._study.tell(trial, list(losses))
                return
        raise InputError(f"{values} is not a setting of the last generation")


class OptunaSingle(Optuna):
    """Optuna's estimator on the objective alone."""

    def ask(self, num: int) -> list[Values]:
        """Return settings that the estimator finds promising."""
        self._study = self._study or self._of(1)
        return super().ask(num)

    def tell(self, values: Values, losses: Sequence[float]) -> None:
        """Report the objective's loss."""
        super().tell(values, losses[:1])


SEARCHES: dict[str, Any] = {"grid": Grid, "random": Random, "optuna": OptunaSingle, "optuna_pareto": Optuna}


def open_search(name: str, space: Mapping[str, Parameter], limit: int, seed: int) -> Search:
    """Open a search by name; raises InputError for an unknown name, or for a search that needs a limit and has none."""
    return lookup("search", name, SEARCHES)(space, limit, seed)
