"""The sessions of a server: it keeps their values in a store, and the model computes their masks.

A change (rules.py) takes effect when its value is committed, and it is committed only after its mask was computed. So a
failure on the way changes nothing, and the change can be repeated.
"""

import hashlib
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from models.interaction import Click
from models.rle import Rle
from serve.core.masks import Made
from serve.core.options import Options
from serve.core.problems import Problem
from serve.core.values import Basis, Change, SessionValue
from serve.engine.asking import MASK, OPEN, PASSES, PROBABILITY, Work
from serve.engine.fleet import Fleet
from serve.engine.locks import KeyedLocks
from serve.observing import metrics
from serve.sessions import rules
from serve.sessions.open_store import open_store
from serve.sessions.store import ValueStore

logger = logging.getLogger("maskwright.serve")
__all__ = ["Change", "Outcome", "Sessions"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """The mask and the value of a session after a change."""

    made: Made
    value: SessionValue

    @property
    def mask(self) -> np.ndarray:
        """The mask, bool (h, w)."""
        return self.made.mask


class Sessions:
    """All sessions. Methods raise Problem and may take as long as a forward, so call them in a thread.

    `who`: name of the caller's token, None if the server requires none. Sessions of other tokens are unknown.
    """

    def __init__(
        self,
        fleet: Fleet,
        options: Options,
        clock: Callable[[], float] = time.time,
        values: ValueStore | None = None,
    ) -> None:
        self._fleet, self._options, self._clock = fleet, options, clock
        self._values = values if values is not None else open_store(options.sessions)
        self._locks = KeyedLocks()  # one change of a session at a time
        self._guard = threading.Lock()

    def __len__(self) -> int:
        self._drop_expired()
        return self._totals()[0]

    def check_room(self, num_bytes: int) -> int:
        """Return the number of open sessions; raises at_capacity unless one more with so many bytes fits.

        Call it before decoding the image.
        """
        self._drop_expired()
        num, stored = self._totals()
        full = num >= self._options.max_sessions
        if full or (num and stored + num_bytes > self._options.max_stored_bytes):
            raise Problem("at_capacity", f"{num} sessions are open; try again later", retry_after_s=5)
        return num

    def create(
        self, data: bytes, image: np.ndarray, basis: Basis | None = None, who: str | None = None
    ) -> SessionValue:
        """Open a session on an image file and its decoded pixels; raises at_capacity and what `Engine.open` raises."""
        basis = basis or Basis(bit_depth=self._options.bit_depth)
        basis = replace(basis, model=basis.model or self._fleet.default)
        value = SessionValue(
            id=secrets.token_urlsafe(24),
            image_sha256=hashlib.sha256(data).hexdigest(),
            hw=(image.shape[0], image.shape[1]),
            basis=basis,
            model_version=self._fleet.info(basis.model).model_version,
            used_at=self._clock(),
            owner=who,
        )
        self._fleet.ask(OPEN, Work(session_id=value.id, basis=basis, load=lambda: data, image=image))
        with self._guard:
            num = self.check_room(len(data))
            self._values.add(value, data)
        metrics.put(metrics.SESSIONS, num + 1)
        return value

    def get(self, session_id: str, who: str | None = None) -> SessionValue:
        """Return a session, which counts as use; raises session_unknown, session_expired."""
        self._drop_expired()
        value = self._values.get(session_id)
        if value is None and self._values.has_ended(session_id):
            raise Problem("session_expired", f"the session was idle for more than {self._options.idle_timeout_s:g} s")
        if value is None or value.owner != who:
            raise Problem("session_unknown", "no session has this id; open one with POST /v1/sessions")
        now = self._clock()
        # A resolution of one second is enough for a timeout of many minutes.
        if now - value.used_at >= 1:
            with _put_off():
                self._values.touch(session_id, now)
            return replace(value, used_at=now)
        return value

    def expires_in_s(self, value: SessionValue) -> int:
        """Return the whole seconds until a session returned by `get` or `create` ends, unless it is used before."""
        return max(0, int(value.used_at + self._options.idle_timeout_s - self._clock()))

    def delete(self, session_id: str, who: str | None = None) -> None:
        """Delete a session; raises like `get`."""
        value = self.get(session_id, who)
        self._values.delete(session_id)
        self._totals()
        self._fleet.forget(session_id, value.basis.model)

    def current(self, session_id: str, who: str | None = None) -> Outcome:
        """Return the current mask, recomputed if it is no longer cached."""
        with self._locks.alone(session_id):
            value = self.get(session_id, who)
            return Outcome(made=self._made(value), value=value)

    def change(self, session_id: str, change: Change, sequence: int | None = None, who: str | None = None) -> Outcome:
        """Make a change. A repetition of the last one, with equal `sequence` and content, returns the same again.

        Raises stale_sequence if `sequence` is not the next number, and what `rules.after` raises. An undo or redo with
        nothing to do also counts as a change, so that all clients count the same.
        """
        with self._locks.alone(session_id):
            value = self.get(session_id, who)
            if sequence is not None and sequence == value.sequence and change == value.last_change:
                metrics.put(metrics.RETRIES, 1, "change")
                return Outcome(made=self._made(value), value=value)
            if sequence is not None and sequence != value.sequence + 1:
                raise Problem("stale_sequence", f"got change {sequence}: expected {value.sequence + 1}", "/sequence")
            after = rules.after(value, change, self._options, lambda: self._made(value))
            made = self._made(after)
            if not self._values.commit(after, value.sequence):
                raise Problem("stale_sequence", "another change of this session came first", "/sequence")
            return Outcome(made=made, value=after)

    def preview(self, session_id: str, click: Click, who: str | None = None) -> Outcome:
        """Return the mask that a click would give, without changing the session. The same click then costs nothing."""
        with self._locks.alone(session_id):
            value = self.get(session_id, who)
            would = rules.after(value, Change(kind="click", click=click), self._options, lambda: self._made(value))
            return Outcome(made=self._made(would), value=replace(would, sequence=value.sequence))

    def image(self, session_id: str, who: str | None = None) -> bytes:
        """Return the image file as it was sent."""
        return self._file(self.get(session_id, who))

    def probability(self, session_id: str, who: str | None = None) -> np.ndarray:
        """Return the probability map of the current mask, uint8 (h, w)."""
        with self._locks.alone(session_id):
            value = self.get(session_id, who)
            return self._fleet.ask(PROBABILITY, self._work(value))

    def passes(self, session_id: str, who: str | None = None) -> list[tuple[str, Rle]]:
        """Return the name and the mask of each pass of the refinement that led to the current mask."""
        with self._locks.alone(session_id):
            value = self.get(session_id, who)
            return self._fleet.ask(PASSES, self._work(value))

    def _work(self, value: SessionValue) -> Work:
        return Work(session_id=value.id, load=lambda: self._file(value), basis=value.basis, clicks=value.clicks)

    def _file(self, value: SessionValue) -> bytes:
        try:
            return self._values.image(value.image_sha256)
        except KeyError:  # another server deleted it meanwhile
            raise Problem("session_unknown", "the session was deleted") from None

    def _made(self, value: SessionValue) -> Made:
        return self._fleet.ask(MASK, self._work(value))

    def _totals(self) -> tuple[int, int]:
        num, stored = self._values.totals()
        metrics.put(metrics.SESSIONS, num)
        return num, stored

    def _drop_expired(self) -> None:
        with _put_off():
            self._values.expire(self._clock() - self._options.idle_timeout_s)


@contextmanager
def _put_off() -> Iterator[None]:
    """Postpone a write that the store refuses, so that requests that only read still succeed."""
    try:
        yield
    except Problem as problem:
        logger.warning("postponed: %s", problem)
