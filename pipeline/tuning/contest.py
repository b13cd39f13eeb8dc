"""The state of a sweep: which objects each setting has played, its losses, and whether it is still in the race."""

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
    """A setting and its progress. `results` are by piece; `rung`: the last rung at which it was judged, from 0."""

    name: str
    values: dict[str, Any]
    status: str = RUNNING
    reason: str = ""
    rung: int = -1
    results: dict[int, PieceResult] = field(default_factory=dict)

    def rows(self, num_pieces: int | None = None) -> list[ObjectRow]:
        """Return the rows of the pieces played, in order, or those of the first `num_pieces` pieces only."""
        return [row for _, row, _ in self._each(num_pieces)]

    def spent(self, num_pieces: int | None = None) -> list[float]:
        """Return the seconds per click for each row: the mean of the row's piece."""
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
        """Busy seconds per click."""
        clicks = sum(len(row.ious) for row in self.rows())
        return sum(result.seconds[self.name] for result in self.results.values()) / max(1, clicks)

    @property
    def asks_per_click(self) -> float:
        """Requests to the network per click: a price that does not depend on how busy the machine was."""
        return self.forwards[0] / max(1, sum(len(row.ious) for row in self.rows()))

    @property
    def forwards(self) -> tuple[int, int]:
        """Requests to the network, and how many of them were computed instead of taken from the cache."""
        pairs = [result.forwards.get(self.name, (0, 0)) for result in self.results.values()]
        return sum(asked for asked, _ in pairs), sum(computed for _, computed in pairs)


@dataclass(kw_only=True)
class Contest:
    """A race of settings, in generations, over the same pieces of work.

    `ends[r]`: number of pieces that a setting has played at the end of rung r. `default`: name of the setting that all
    others are compared with; it is never dropped. `pareto`: drop a setting only if a better one costs no more time.
    """

    objective: Objective
    race: RaceConfig
    max_clicks: int
    ends: Sequence[int]
    default: str
    pareto: bool = False
    hidden: frozenset[str] = frozenset()
    """Names of values that are equal in all settings and left out of titles."""
    entries: dict[str, Entry] = field(default_factory=dict)
    generation: list[str] = field(default_factory=list)
    _judged: int = -1

    def open(self, settings: Mapping[str, dict[str, Any]]) -> None:
        """Start a generation with those of the named settings that are new."""
        self.generation = [name for name in settings if name not in self.entries]
        for name in self.generation:
            self.entries[name] = Entry(name=name, values=dict(settings[name]))
        self._judged = -1

    def record(self, name: str, piece: int, result: PieceResult) -> None:
        """Record a setting's result for a piece."""
        self.entries[name].results[piece] = result

    def leave(self, name: str, reason: str) -> None:
        """Mark a setting as failed; the others continue."""
        self.entries[name].status, self.entries[name].reason = FAILED, reason

    def verdict(self, name: str, rung: int) -> bool | None:
        """Return whether a setting continues after a rung; None until its whole generation has finished the rung."""
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
        """Return a one-line title for a setting."""
        return "default" if entry.name == self.default else shown(entry.values, self.hidden)

    def losses(self, entry: Entry, num_pieces: int | None = None) -> list[float]:
        """Return an entry's losses in the race, object by object."""
        return race_losses(self.objective, entry.rows(num_pieces), self.max_clicks, entry.spent(num_pieces))

    def score(self, entry: Entry) -> float:
        """Return the objective's mean loss over the objects that an entry played; lower is better."""
        return score(self.objective, entry.rows(), self.max_clicks, entry.spent())

    def best(self) -> Entry | None:
        """Return the best entry that played everything; ties are broken by IoUs on the way, then by price."""
        done = [entry for entry in self.entries.values() if entry.status == PLAYED and entry.results]
        return min(done, key=lambda e: (self.score(e), np.mean(self.losses(e)), e.asks_per_click, e.name), default=None)

    def estimate(self, entry: Entry) -> tuple[float, float]:
        """Return the values reported to the search: the mean loss over all objects, and seconds per click.

        For a setting that was dropped, the loss is the default's mean over all objects plus the mean paired difference
        to the default on the objects that the setting played. Without any object played, both values are infinite.
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
        """Return the entries that played everything and that no other entry beats in loss and time; cheapest first."""
        done = [e for e in self.entries.values() if e.status == PLAYED and e.results]
        points = {e.name: (self.score(e), e.seconds_per_click) for e in done}
        return sorted(
            (e for e in done if not any(_beats(point, points[e.name]) for point in points.values())),
            key=lambda e: points[e.name][1],
        )


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether a point is no worse in both coordinates and not equal."""
    return one != other and one[0] <= other[0] and one[1] <= other[1]
