"""The referee of a sweep: it keeps the contest and its journal, and decides which settings continue.

In a sweep it is a single actor that all trials and evaluators call; this file does not import Ray.
"""

import asyncio
from hashlib import blake2b
from typing import Any

from models.errors import InputError
from pipeline.evaluation.journal import Journal, PieceResult
from pipeline.tuning.contest import Contest, Entry


class Referee:
    """Keeps the contest and its journal; callers wait for verdicts."""

    def __init__(self, contest: Contest, path: str, settings: Any, given: dict[str, Any]) -> None:
        self.contest, self.journal, self._given = contest, Journal(path, settings), given
        self.changed = asyncio.Condition()
        self.holder = ""
        self.failure: InputError | None = None

    async def given(self) -> dict[str, Any]:
        """Return what evaluators are made from."""
        return self._given

    async def open(self, settings: dict[str, dict[str, Any]]) -> None:
        """Start a generation; results in the journal count as played."""
        self.contest.open(settings)
        for name in self.contest.generation:
            for (part, piece), result in self.journal.done.items():
                if part == _number(name):
                    self.contest.record(name, piece, result)

    async def missing(self, name: str, rung: int) -> list[int]:
        """Return the pieces of a rung that a setting has not played."""
        return [p for p in range(self.contest.ends[rung]) if p not in self.contest.entries[name].results]

    async def record(self, name: str, piece: int, result: PieceResult) -> None:
        """Record a result, on disk when this returns; if that fails, the sweep ends."""
        try:
            self.journal.add(_number(name), piece, result)
        except InputError as error:
            self.failure = error
            raise
        async with self.changed:
            self.contest.record(name, piece, result)
            self.changed.notify_all()

    async def verdict(self, name: str, rung: int) -> bool:
        """Wait until a setting's generation has finished a rung, and return whether the setting continues."""
        async with self.changed:
            while (verdict := self.contest.verdict(name, rung)) is None:
                await self.changed.wait()
            self.changed.notify_all()
        return verdict

    async def leave(self, name: str, reason: str) -> None:
        """Mark a setting as failed for good."""
        async with self.changed:
            self.contest.leave(name, reason)
            if self.holder == name:
                self.holder = ""
            self.changed.notify_all()

    async def take(self, name: str) -> None:
        """Wait for the lock for training; a setting whose trial died while holding it can take it again."""
        async with self.changed:
            while self.holder not in ("", name):
                await self.changed.wait()
            self.holder = name

    async def give(self, name: str) -> None:
        """Release the lock for training."""
        async with self.changed:
            if self.holder == name:
                self.holder = ""
            self.changed.notify_all()

    async def state(self, name: str) -> Entry:
        """Return an entry."""
        return self.contest.entries[name]

    async def losses(self, name: str) -> tuple[float, float]:
        """Return a setting's loss and its seconds a click, the values reported to the search."""
        return self.contest.estimate(self.contest.entries[name])

    async def failed(self) -> InputError | None:
        """Return the error if results could not be stored."""
        return self.failure

    async def finished(self) -> Contest:
        """Return the contest."""
        return self.contest

    async def flush(self) -> None:
        """Write all results to the journal's place."""
        self.journal.flush()


def _number(name: str) -> int:
    """Return a setting's number in the journal, derived from its name so that the order of settings does not matter."""
    return int.from_bytes(blake2b(name.encode(), digest_size=6).digest())
