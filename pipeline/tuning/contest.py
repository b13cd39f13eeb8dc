"""The state of a sweep: which settings played which objects, who is still in the race, what each of them lost. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.evaluation.journal import PieceResult
from pipeline.evaluation.object_row import ObjectRow
from pipeline.tuning.objective import Objective, race_losses, score
from pipeline.tuning.race import RaceConfig, judge
from pipeline.tuning.settings import shown

PLAYED, DROPPED, FAILED, RUNNING = "played", "dropped", "failed", "running"


@dataclass(kw_only=True)
class Entry:
    """A setting and what became of it. `results` by piece; `rung`: the last one that it was judged at, from 0."""

    name: str
    values: dict[str, Any]
    status: str = RUNNING
    reason: str = ""
    rung: int = -1
    results: dict[int, PieceResult] = field(default_factory=dict)

    def rows(self, num_pieces: int | None = None) -> list[ObjectRow]:
        """Rows of the pieces played, in their order; of the first `num_pieces` only."""
        return [row for _, row, _ in self._each(num_pieces)]

    def spent(self, num_pieces: int | None = None) -> list[float]:
        """Seconds a click, object by object: those of the object's piece."""
        return [seconds for _, _, seconds in self._each(num_pieces)]

    def _each(self, num_pieces: int | None) -> list[tuple[int, ObjectRow, float]]:
        out = []
        for piece in sorted(self.results):
            if num_pieces is not None and piece >= num_pieces:
                break
            rows = self.results[piece].rows[self.name]
            clicks = sum(len(row.ious) for row in rows)
            each = self.results[piece].seconds[self.name] / max(1, clicks)
            out += [(piece, row, each) for row in rows]
        return out

    @property
    def seconds_per_click(self) -> float:
        """Busy seconds over clicks."""
        clicks = sum(len(row.ious) for row in self.rows())
        return sum(result.seconds[self.name] for result in self.results.values()) / max(1, clicks)

    @property
    def asks_per_click(self) -> float:
        """Requests of the network over clicks: a price that does not depend on how busy the machine was."""
        return self.forwards[0] / max(1, sum(len(row.ious) for row in self.rows()))

    @property
    def forwards(self) -> tuple[int, int]:
        """Requests of the network, and those of them that were computed and not remembered."""
        pairs = [result.forwards.get(self.name, (0, 0)) for result in self.results.values()]
        return sum(asked for asked, _ in pairs), sum(computed for _, computed in pairs)


@dataclass(kw_only=True)
class Contest:
    """Generations of settings race over the same pieces of work.

    `ends[r]`: how many pieces are played when rung r is. `default` names the setting that all are compared with: it is
    never dropped. `pareto`: a setting is dropped only if one that costs no more time is better.
    """

    objective: Objective
    race: RaceConfig
    max_clicks: int
    ends: Sequence[int]
    default: str
    pareto: bool = False
    hidden: frozenset[str] = frozenset()
    """Names of values that are alike in all settings, which nobody wants to read again."""
    entries: dict[str, Entry] = field(default_factory=dict)
    generation: list[str] = field(default_factory=list)
    _judged: int = -1

    def open(self, settings: Mapping[str, dict[str, Any]]) -> None:
        """Begin a generation of new settings, by name."""
        self.generation = [name for name in settings if name not in self.entries]
        for name in self.generation:
            self.entries[name] = Entry(name=name, values=dict(settings[name]))
        self._judged = -1

    def record(self, name: str, piece: int, result: PieceResult) -> None:
        """Keep what a setting did with a piece."""
        self.entries[name].results[piece] = result

    def leave(self, name: str, reason: str) -> None:
        """A setting ends without a result: the others go on."""
        self.entries[name].status, self.entries[name].reason = FAILED, reason

    def verdict(self, name: str, rung: int) -> bool | None:
        """Whether a setting goes on after a rung; None while others of its generation have not ended it."""
        entry = self.entries[name]
        if rung > self._judged and entry.status == RUNNING:
            running = [self.entries[other] for other in self.generation if self.entries[other].status == RUNNING]
            if any(piece not in other.results for other in running for piece in range(self.ends[rung])):
                return None
            self._judge(running, rung)
        return entry.status == RUNNING

    def _judge(self, running: Sequence[Entry], rung: int) -> None:
        self._judged = rung
        for entry in running:
            entry.rung = rung
        if rung == len(self.ends) - 1:
            for entry in running:
                entry.status = PLAYED
            return
        known = [self.entries[self.default], self.best()] if self.default in self.entries else [self.best()]
        rivals = {e.name: e for e in [*running, *(k for k in known if k is not None and k.status == PLAYED)]}
        losses = {name: self.losses(entry, self.ends[rung]) for name, entry in rivals.items()}
        if any(not row for row in losses.values()):
            return
        costs = {name: entry.seconds_per_click for name, entry in rivals.items()} if self.pareto else None
        verdict = judge(losses, self.race, immune=self.default, costs=costs)
        for entry in running:
            if entry.name in verdict.dropped:
                entry.status, entry.reason = DROPPED, verdict.dropped[entry.name]

    def title(self, entry: Entry) -> str:
        """A setting in a line."""
        return "default" if entry.name == self.default else shown(entry.values, self.hidden)

    def losses(self, entry: Entry, num_pieces: int | None = None) -> list[float]:
        """Losses by which an entry races, object by object."""
        return race_losses(self.objective, entry.rows(num_pieces), self.max_clicks, entry.spent(num_pieces))

    def score(self, entry: Entry) -> float:
        """The objective's mean over what an entry played; low is good."""
        return score(self.objective, entry.rows(), self.max_clicks, entry.spent())

    def best(self) -> Entry | None:
        """The best of those that played everything: by the objective; of equals by IoUs on the way, then the price."""
        done = [entry for entry in self.entries.values() if entry.status == PLAYED and entry.results]
        return min(done, key=lambda e: (self.score(e), np.mean(self.losses(e)), e.asks_per_click, e.name), default=None)

    def estimate(self, entry: Entry) -> tuple[float, float]:
        """What a search is told: the mean loss over all objects, and seconds a click.

        Of a setting that was dropped: the default's mean over all objects, and the mean paired difference to it on the
        objects that it played. Nothing played, nothing known: infinite.
        """
        rows = self.losses(entry)
        if not rows:
            return float("inf"), float("inf")
        default = self.entries.get(self.default)
        if entry.status == PLAYED or default is None or default.status != PLAYED:
            return float(np.mean(rows)), entry.seconds_per_click
        reference = self.losses(default)
        gained = float(np.mean(np.asarray(rows) - np.asarray(reference[: len(rows)])))
        return float(np.mean(reference)) + gained, entry.seconds_per_click

    def pareto_front(self) -> list[Entry]:
        """Those that played everything, of which none is both better and cheaper; cheapest first."""
        done = [e for e in self.entries.values() if e.status == PLAYED and e.results]
        points = {e.name: (self.score(e), e.seconds_per_click) for e in done}
        return sorted(
            (e for e in done if not any(_beats(point, points[e.name]) for point in points.values())),
            key=lambda e: points[e.name][1],
        )


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether a point is nowhere worse, and not the same."""
    return one != other and one[0] <= other[0] and one[1] <= other[1]
