"""The store of sessions in Redis, for servers on several machines, with the guarantees of SqliteStore."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from models.errors import InputError
from serve.core.problems import Problem
from serve.core.values import SessionValue
from serve.sessions import redis_scripts as scripts
from serve.sessions.store import NUM_ENDED, stored_bytes

PREFIX = "{maskwright}:"
"""Prefix of every key; the braces make a server that distributes keys by hash tag keep them together."""
PASSWORD = "MASKWRIGHT_REDIS_PASSWORD"
"""The environment variable with the password, for a URL without one."""
TIMEOUT_S = 5.0
"""Timeout of one call; a slow network of 100 Mbit/s transfers the largest image in half of it."""
OPTIONS = {"db", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}
"""Query parameters that a URL may have."""

logger = logging.getLogger("maskwright.serve")


class RedisStore:
    """A ValueStore in Redis 6.2 or later. What survives a kill of Redis depends on its persistence settings."""

    def __init__(self, url: str, *, num_ended: int = NUM_ENDED) -> None:
        """Connect to redis://, rediss:// (TLS) or unix://; raises InputError if no suitable Redis answers."""
        self._num_ended = num_ended
        pool = pool_of(url)
        options = pool.connection_kwargs
        self._secrets = [secret for secret in (options.get("password"),) if secret]
        place = options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"
        self.name = f"{urlsplit(url).scheme}://{place} (db {options.get('db', 0)})"
        """Address of the Redis, without user and password."""
        self._redis = redis.Redis(connection_pool=pool)
        self._add, self._get, self._commit, self._delete, self._expire, self._totals = map(
            self._script,
            (scripts.ADD, scripts.GET, scripts.COMMIT, scripts.DELETE, scripts.EXPIRE, scripts.TOTALS),
        )
        self._check()

    def __repr__(self) -> str:
        return f"RedisStore({self.name})"

    def add(self, value: SessionValue, data: bytes) -> None:
        """Store a new session and its image file; raises ValueError if the id exists."""
        row = (value.id, value.image_sha256, value.to_json(), value.sequence, value.used_at)
        if not self._add(*row, stored_bytes(value, data), data):
            raise ValueError(f"the session {value.id} already exists")

    def get(self, session_id: str) -> SessionValue | None:
        """Return a session, or None."""
        value, used_at = self._get(session_id)
        return None if value is None or used_at is None else SessionValue.from_json(value.decode(), float(used_at))

    def has_ended(self, session_id: str) -> bool:
        """Return whether there was such a session, and it expired."""
        with self._asking():
            return self._redis.zscore(f"{PREFIX}ended", session_id) is not None

    def commit(self, value: SessionValue, sequence: int) -> bool:
        """Replace a session's value if it is still at `sequence`; return False if another change came first."""
        return bool(self._commit(value.id, value.to_json(), value.sequence, sequence))

    def touch(self, session_id: str, now: float) -> None:
        """Set the time of last use to `now`, unless it is later already."""
        with self._asking():
            self._redis.zadd(f"{PREFIX}used", {session_id: now}, xx=True, gt=True)

    def delete(self, session_id: str) -> None:
        """Delete a session, and its image if no other session uses it."""
        self._delete(session_id)

    def image(self, sha256: str) -> bytes:
        """Return the image file of a session; raises KeyError if there is none."""
        with self._asking():
            data: Any = self._redis.get(f"{PREFIX}image:{sha256}")
        if data is None:
            raise KeyError(sha256)
        return data

    def expire(self, before: float) -> None:
        """End the sessions that were last used before the given time."""
        self._expire(before, self._num_ended)

    def totals(self) -> tuple[int, int]:
        """Return the number of sessions and the bytes that they store."""
        num, stored = self._totals()
        return int(num), int(stored)

    def _script(self, code: str) -> Callable[..., Any]:
        script = self._redis.register_script(code)

        def call(*args: bytes | str | float) -> Any:
            with self._asking():
                return script(keys=[PREFIX], args=args)

        return call

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except RedisError as error:
            logger.warning("sessions in %s: %s", self.name, self._text_of(error))
            raise Problem(
                "unavailable",
                "the store of sessions does not answer; send the request again, with its sequence number if it is a "
                "change",
                retry_after_s=1,
            ) from None

    def _text_of(self, error: RedisError) -> str:
        # Old versions of Redis repeat the command that they refuse, which may contain the password.
        text = f"{type(error).__name__}: {error}".rstrip(".")
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _check(self) -> None:
        try:
            info: Any = self._redis.info()
        except RedisError as error:
            raise InputError(
                f"sessions in {self.name}: {self._text_of(error)}; start Redis there, give its password in {PASSWORD}, "
                "or name a file instead"
            ) from None
        version = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
        if version < (6, 2):
            raise InputError(f"sessions in {self.name}: Redis {info['redis_version']} is too old; use 6.2 or later")
        policy = str(info.get("maxmemory_policy", "noeviction"))
        if policy.startswith("allkeys"):
            raise InputError(
                f"sessions in {self.name}: its maxmemory-policy is {policy}, which may drop sessions and images at any "
                "time; set it to noeviction"
            )


def pool_of(url: str, timeout_s: float = TIMEOUT_S) -> redis.ConnectionPool:
    """Return a pool of connections to a Redis, opened when needed; raises InputError for an invalid URL."""
    # Errors repeat no part of the URL: in a mistyped one, the password may be anywhere.
    try:
        unknown = sorted(set(parse_qs(urlsplit(url).query, keep_blank_values=True)) - OPTIONS)
        if unknown:
            raise InputError(f"the Redis URL has an unknown option; known: {', '.join(sorted(OPTIONS))}")
        return redis.ConnectionPool.from_url(
            url,
            password=os.environ.get(PASSWORD) or None,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # A repeated commit would be refused as stale; the client repeats the change with its number instead.
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        raise InputError(
            "the Redis URL cannot be read: expected redis://HOST:PORT/DB, rediss://HOST:PORT/DB or "
            f"unix:///PATH?db=DB; give a password with special characters in {PASSWORD}"
        ) from None
