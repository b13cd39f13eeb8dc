"""The store of sessions in SQLite: a file that survives every process, or memory. Equal images are stored once.

For servers on several machines, see store_redis.py.
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
"""Number of expired sessions that are remembered, to answer 410 instead of 404."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS images (sha256 TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY, image_sha256 TEXT NOT NULL, value TEXT NOT NULL, sequence INTEGER NOT NULL,
    used_at REAL NOT NULL, stored_bytes INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_use ON sessions (used_at);
CREATE TABLE IF NOT EXISTS ended (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL);
"""


class ValueStore(Protocol):
    """Session values by id, shared by all serving processes; every method may be called from any of them."""

    def add(self, value: SessionValue, data: bytes) -> None:
        """Store a new session and its image file; raises ValueError if the id exists."""
        ...

    def get(self, session_id: str) -> SessionValue | None:
        """Return a session, or None."""
        ...

    def has_ended(self, session_id: str) -> bool:
        """Return whether there was such a session, and it expired."""
        ...

    def commit(self, value: SessionValue, sequence: int) -> bool:
        """Replace a session's value if it is still at `sequence`; return False if another change came first."""
        ...

    def touch(self, session_id: str, now: float) -> None:
        """Set the time of last use to `now`, unless it is later already (clocks differ)."""
        ...

    def delete(self, session_id: str) -> None:
        """Delete a session, and its image if no other session uses it."""
        ...

    def image(self, sha256: str) -> bytes:
        """Return the image file of a session; raises KeyError if there is none."""
        ...

    def expire(self, before: float) -> None:
        """End the sessions that were last used before the given time."""
        ...

    def totals(self) -> tuple[int, int]:
        """Return the number of sessions and the bytes that they store."""
        ...


def stored_bytes(value: SessionValue, data: bytes) -> int:
    """Return the bytes of a session in `totals`: its image file and the masks that it started from."""
    given = (value.basis.initial_mask, value.basis.exemplar and value.basis.exemplar.mask)
    return len(data) + sum(len(mask["counts"]) for mask in given if mask is not None)


class SqliteStore:
    """A ValueStore in one file (None: in memory, for one process). Committed values survive a kill of any process.

    If the disk is full or read-only, writing raises unavailable, and reading still works.
    """

    def __init__(self, path: Path | None = None, *, num_ended: int = NUM_ENDED) -> None:
        self._num_ended = num_ended
        if path is not None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The images belong to users, so only the file's owner may read them.
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
        """Store a new session and its image file; raises ValueError if the id exists."""
        with self._writing() as db:
            db.execute("INSERT OR IGNORE INTO images VALUES (?, ?)", (value.image_sha256, data))
            row = (value.id, value.image_sha256, value.to_json(), value.sequence, value.used_at)
            try:
                db.execute("INSERT INTO sessions VALUES (?, ?, ?, ?, ?, ?)", (*row, stored_bytes(value, data)))
            except sqlite3.IntegrityError:
                raise ValueError(f"the session {value.id} already exists") from None

    def get(self, session_id: str) -> SessionValue | None:
        """Return a session, or None."""
        found = self._one("SELECT value, used_at FROM sessions WHERE id = ?", session_id)
        return None if found is None else SessionValue.from_json(*found)

    def has_ended(self, session_id: str) -> bool:
        """Return whether there was such a session, and it expired."""
        return self._one("SELECT 1 FROM ended WHERE id = ?", session_id) is not None

    def commit(self, value: SessionValue, sequence: int) -> bool:
        """Replace a session's value if it is still at `sequence`; return False if another change came first."""
        with self._writing() as db:
            row = (value.to_json(), value.sequence, value.id, sequence)
            return (
                db.execute("UPDATE sessions SET value = ?, sequence = ? WHERE id = ? AND sequence = ?", row).rowcount
                == 1
            )

    def touch(self, session_id: str, now: float) -> None:
        """Set the time of last use to `now`, unless it is later already."""
        with self._writing() as db:
            db.execute("UPDATE sessions SET used_at = MAX(used_at, ?) WHERE id = ?", (now, session_id))

    def delete(self, session_id: str) -> None:
        """Delete a session, and its image if no other session uses it."""
        with self._writing() as db:
            db.execute("DELETE FROM sessions WHERE id = ?", (session_id,))
            self._drop_images(db)

    def image(self, sha256: str) -> bytes:
        """Return the image file of a session; raises KeyError if there is none."""
        found = self._one("SELECT data FROM images WHERE sha256 = ?", sha256)
        if found is None:
            raise KeyError(sha256)
        return found[0]

    def expire(self, before: float) -> None:
        """End the sessions that were last used before the given time."""
        if self._one("SELECT 1 FROM sessions WHERE used_at < ? LIMIT 1", before) is None:
            return
        with self._writing() as db:
            ending = "SELECT id FROM sessions WHERE used_at < ? ORDER BY used_at, id"
            db.execute(f"INSERT OR IGNORE INTO ended (id) {ending}", (before,))
            db.execute("DELETE FROM sessions WHERE used_at < ?", (before,))
            db.execute("DELETE FROM ended WHERE number <= (SELECT MAX(number) FROM ended) - ?", (self._num_ended,))
            self._drop_images(db)

    def totals(self) -> tuple[int, int]:
        """Return the number of sessions and the bytes that they store."""
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
    """Raise unavailable if the disk is full, read-only or gone, or another process locks the file for too long."""
    try:
        yield
    except sqlite3.OperationalError as error:
        logger.error("the file of sessions cannot be used: %s", error)
        raise Problem("unavailable", "the store of sessions cannot be used now", retry_after_s=5) from error
