"""The referee of a sweep: it keeps the contest and its journal, and settings wait for its verdicts. No Ray here.

In a sweep it is one actor, asked by all trials and evaluators.
"""

import asyncio
from hashlib import blake2b
from typing import Any

from models.errors import InputError
from pipeline.evaluation.journal import Journal, PieceResult
from pipeline.tuning.contest import Contest, Entry


class Referee:
    """Keep the contest and its journal; verdicts are waited for."""

    def __init__(self, contest: Contest, path: str, settings: Any, given: dict[str, Any]) -> None:
        self.contest, self.journal, self._given = contest, Journal(path, settings), given
        self.changed = asyncio.Condition()
        self.holder = ""
        self.failure: InputError | None = None

    async def given(self) -> dict[str, Any]:
        """What evaluators are made from."""
        return self._given

    async def open(self, settings: dict[str, dict[str, Any]]) -> None:
        """Begin a generation; what the journal knows of it is played already."""
        self.contest.open(settings)
        for name in self.contest.generation:
            for (part, piece), result in self.journal.done.items():
                if part == _number(name):
                    self.contest.record(name, piece, result)

    async def missing(self, name: str, rung: int) -> list[int]:
        """Pieces of a rung that a setting has not played."""
        return [p for p in range(self.contest.ends[rung]) if p not in self.contest.entries[name].results]

    async def record(self, name: str, piece: int, result: PieceResult) -> None:
        """Keep a result, on disk when this returns; once that has failed, the sweep is over."""
        try:
            self.journal.add(_number(name), piece, result)
        except InputError as error:
            self.failure = error
            raise
        async with self.changed:
            self.contest.record(name, piece, result)
            self.changed.notify_all()

    async def verdict(self, name: str, rung: int) -> bool:
        """Whether a setting goes on after a rung, once all of its generation have ended it."""
        async with self.changed:
            while (verdict := self.contest.verdict(name, rung)) is None:
                await self.changed.wait()
            self.changed.notify_all()
        return verdict

    async def leave(self, name: str, reason: str) -> None:
        """A setting has failed for good."""
        async with self.changed:
            self.contest.leave(name, reason)
            if self.holder == name:
                self.holder = ""
            self.changed.notify_all()

    async def take(self, name: str) -> None:
        """Wait for the one place where a setting may train; it may ask again after it died there."""
        async with self.changed:
            while self.holder not in ("", name):
                await self.changed.wait()
            self.holder = name

    async def give(self, name: str) -> None:
        """Leave the place."""
        async with self.changed:
            if self.holder == name:
                self.holder = ""
            self.changed.notify_all()

    async def state(self, name: str) -> tuple[Entry, tuple[float, float]]:
        """An entry as it is, and what a search is told of it."""
        entry = self.contest.entries[name]
        return entry, self.contest.estimate(entry)

    async def failed(self) -> InputError | None:
        """Why results cannot be kept, if so."""
        return self.failure

    async def finished(self) -> Contest:
        """The contest."""
        return self.contest

    async def flush(self) -> None:
        """See all results to the journal's place."""
        self.journal.flush()


def _number(name: str) -> int:
    """Number of a setting in the journal: by its name, so that the order of settings does not matter."""
    return int.from_bytes(blake2b(name.encode(), digest_size=6).digest())
