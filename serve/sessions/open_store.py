"""Open the store of sessions that `--sessions` names."""

import re
import sqlite3
from pathlib import Path

from models.errors import InputError
from serve.sessions.store import SqliteStore, ValueStore

SCHEMES = ("redis", "rediss", "unix")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/")


def is_url(where: str | Path) -> bool:
    """Return whether `where` is a URL and not a file's path; one slash is enough, because Path drops the second."""
    return _SCHEME.match(str(where)) is not None


def settled(where: str) -> str:
    """Return `where` for processes that run in other folders: a file's absolute path, or the unchanged URL."""
    return where if is_url(where) else str(Path(where).absolute())


def open_store(where: str | Path | None) -> ValueStore:
    """Open the store at a redis://, rediss:// or unix:// URL, in a SQLite file, or (None) in memory.

    Raises InputError for a store that cannot be reached or opened, with a message that never contains a password.
    """
    scheme = None if where is None else _SCHEME.match(str(where))
    if scheme is None:
        return _open_file(None if where is None else Path(where))
    if scheme[1].lower() not in SCHEMES or "://" not in str(where):
        raise InputError(
            f"sessions is a {scheme[1]}: URL: expected redis://HOST:PORT/DB, rediss://HOST:PORT/DB, "
            "unix:///PATH or the path of a file"
        )
    from serve.sessions.store_redis import RedisStore  # imported only where it is used, since it is slow to import

    return RedisStore(str(where))


def _open_file(path: Path | None) -> SqliteStore:
    try:
        return SqliteStore(path)
    except (OSError, sqlite3.Error) as error:
        raise InputError(f"sessions in {path}: {error}; give a file in a writable folder") from error
