"""Where sessions are kept: SQLite, in a file that survives every process, or in memory. Images once, by content.

For servers on several machines there is store_redis.py.
"""

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from serve.core.problems import Problem
from serve.core.values import SessionValue

logger = logging.getLogger("maskwright.serve")
NUM_ENDED = 10_000
"""How many ended sessions are remembered, to tell 410 from 404."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS images (sha256 TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY, image_sha256 TEXT NOT NULL, value TEXT NOT NULL, sequence INTEGER NOT NULL,
    used_at REAL NOT NULL, stored_bytes INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_use ON sessions (used_at);
CREATE TABLE IF NOT EXISTS ended (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL);
"""


class ValueStore(Protocol):
    """Values by session id, shared by all processes that serve; every method is safe to call from any of them."""

    def add(self, value: SessionValue, data: bytes) -> None:
        """Keep a new session and its image file; ValueError if there is a session of this id."""
        ...

    def get(self, session_id: str) -> SessionValue | None:
        """Find a session."""
        ...

    def has_ended(self, session_id: str) -> bool:
        """Whether there was such a session that was idle for too long."""
        ...

    def commit(self, value: SessionValue, sequence: int) -> bool:
        """Replace a session's value if it still is at `sequence`; false if another change came first."""
        ...

    def touch(self, session_id: str, now: float) -> None:
        """Count as use; a clock that is behind another's takes no use back."""
        ...

    def delete(self, session_id: str) -> None:
        """Forget a session, and its image if no other has it."""
        ...

    def image(self, sha256: str) -> bytes:
        """The image file of a session; KeyError if there is none."""
        ...

    def expire(self, before: float) -> None:
        """End the sessions that were last used before."""
        ...

    def totals(self) -> tuple[int, int]:
        """Sessions, and bytes that they store."""
        ...


def stored_bytes(value: SessionValue, data: bytes) -> int:
    """What a session counts in `totals`: its image file and the masks that it started from."""
    given = (value.basis.initial_mask, value.basis.exemplar and value.basis.exemplar.mask)
    return len(data) + sum(len(mask["counts"]) for mask in given if mask is not None)


class SqliteStore:
    """A ValueStore in one file (None: in memory, for one process). What is committed survives a kill of any process.

    Where nothing can be written (the disk is full or read-only) writing raises unavailable; what is there can be read.
    """

    def __init__(self, path: Path | None = None, *, num_ended: int = NUM_ENDED) -> None:
        self._num_ended = num_ended
        if path is not None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Images of people's work: for their owner alone.
            path.touch(mode=0o600, exist_ok=True)
        self._connection = sqlite3.connect(
            path or ":memory:", check_same_thread=False, isolation_level=None, timeout=30
        )
        self._lock = threading.Lock()
        if path is not None:
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.executescript(SCHEMA)

    def add(self, value: SessionValue, data: bytes) -> None:
        """Keep a new session and its image file."""
        with self._writing() as db:
            db.execute("INSERT OR IGNORE INTO images VALUES (?, ?)", (value.image_sha256, data))
            row = (value.id, value.image_sha256, value.to_json(), value.sequence, value.used_at)
            try:
                db.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)", (*row, stored_bytes(value, data)))
            except sqlite3.IntegrityError:
                raise ValueError(f"there is a session {value.id} already") from None

    def get(self, session_id: str) -> SessionValue | None:
        """Find a session."""
        found = self._one("SELECT value, used_at FROM sessions WHERE id = ?", session_id)
        return None if found is None else SessionValue.from_json(*found)

    def has_ended(self, session_id: str) -> bool:
        """Whether there was such a session that was idle for too long."""
        return self._one("SELECT 1 FROM ended WHERE id = ?", session_id) is not None

    def commit(self, value: SessionValue, sequence: int) -> bool:
        """Replace a session's value if it still is at `sequence`; false if another change came first."""
        with self._writing() as db:
            row = (value.to_json(), value.sequence, value.id, sequence)
            return (
                db.execute("UPDATE sessions SET value = ?, sequence = ? WHERE id = ? AND sequence = ?", row).rowcount
                == 1
            )

    def touch(self, session_id: str, now: float) -> None:
        """Count as use."""
        with self._writing() as db:
            db.execute("UPDATE sessions SET used_at = MAX(used_at, ?) WHERE id = ?", (now, session_id))

    def delete(self, session_id: str) -> None:
        """Forget a session, and its image if no other has it."""
        with self._writing() as db:
            db.execute("DELETE FROM sessions WHERE id = ?", (session_id,))
            self._drop_images(db)

    def image(self, sha256: str) -> bytes:
        """The image file of a session; KeyError if there is none."""
        found = self._one("SELECT data FROM images WHERE sha256 = ?", sha256)
        if found is None:
            raise KeyError(sha256)
        return found[0]

    def expire(self, before: float) -> None:
        """End the sessions that were last used before."""
        if self._one("SELECT 1 FROM sessions WHERE used_at < ? LIMIT 1", before) is None:
            return
        with self._writing() as db:
            ending = "SELECT id FROM sessions WHERE used_at < ? ORDER BY used_at, id"
            db.execute(f"INSERT OR IGNORE INTO ended (id) {ending}", (before,))
            db.execute("DELETE FROM sessions WHERE used_at < ?", (before,))
            db.execute("DELETE FROM ended WHERE number <= (SELECT MAX(number) FROM ended) - ?", (self._num_ended,))
            self._drop_images(db)

    def totals(self) -> tuple[int, int]:
        """Sessions, and bytes that they store."""
        found = self._one("SELECT COUNT(*), COALESCE(SUM(stored_bytes), 0) FROM sessions")
        assert found is not None
        return found[0], found[1]

    def _one(self, query: str, *values: object) -> tuple | None:
        with self._lock, _as_problem():
            return self._connection.execute(query, values).fetchone()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _as_problem():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have ended it
                    self._connection.execute("ROLLBACK")
                raise

    @staticmethod
    def _drop_images(db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM images WHERE sha256 NOT IN (SELECT image_sha256 FROM sessions)")


@contextmanager
def _as_problem() -> Iterator[None]:
    """Say that the file cannot be used: its disk is full, read-only or gone, or another process holds it too long."""
    try:
        yield
    except sqlite3.OperationalError as error:
        logger.error("the file of sessions cannot be used: %s", error)
        raise Problem("unavailable", "the store of sessions does not take this now", retry_after_s=5) from error
