"""Sessions: the rules by which clicks, undo, redo and repetitions change a session's value.

Values are in a store that survives processes; masks come from whoever runs the model. A change counts once its value is
committed, and it is committed once its mask is there: a failure on the way changes nothing, and may be repeated.
"""

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from models import rle
from models.errors import InputError
from models.interaction import Click, check_click
from serve.locks import KeyedLocks
from serve.made import Made
from serve.masks import Masks
from serve.open_store import open_store
from serve.problems import Problem
from serve.settings import Settings
from serve.store import ValueStore
from serve.values import Change, SessionValue

__all__ = ["Change", "Outcome", "Sessions", "check_wire_click"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """State of a session after a change."""

    made: Made
    clicks: tuple[Click, ...]
    num_redo: int
    sequence: int

    @property
    def mask(self) -> np.ndarray:
        """The mask, bool (h, w)."""
        return self.made.mask


class Sessions:
    """All sessions. Methods raise Problem and may take as long as a forward: call them in a thread."""

    def __init__(
        self,
        masks: Masks,
        settings: Settings,
        clock: Callable[[], float] = time.time,
        values: ValueStore | None = None,
    ) -> None:
        self._masks, self._settings, self._clock = masks, settings, clock
        self._values = values if values is not None else open_store(settings.sessions)
        # One change of a session at a time; locks vanish with the last who holds them.
        self._locks = KeyedLocks()
        self._guard = threading.Lock()

    def __len__(self) -> int:
        self._drop_expired()
        return self._values.totals()[0]

    def check_room(self, num_bytes: int) -> None:
        """Raise at_capacity unless a session with so many bytes to store fits: to be asked before decoding."""
        self._drop_expired()
        num, stored = self._values.totals()
        full = num >= self._settings.max_sessions
        if full or (num and stored + num_bytes > self._settings.max_stored_bytes):
            raise Problem("at_capacity", f"{num} sessions are open; try again", retry_after_s=5)

    def create(self, data: bytes, image: np.ndarray, initial_mask: np.ndarray | None) -> SessionValue:
        """Start a session on an image file and its decoded pixels; raises at_capacity."""
        value = SessionValue(
            id=secrets.token_urlsafe(24),
            image_sha256=hashlib.sha256(data).hexdigest(),
            hw=(image.shape[0], image.shape[1]),
            initial_mask=None if initial_mask is None else rle.encode(initial_mask),
            model_version=self._masks.info().model_version,
            used_at=self._clock(),
        )
        self._masks.open(value.id, data, image, value.initial_mask)
        with self._guard:
            self.check_room(len(data))
            self._values.add(value, data)
        return value

    def get(self, session_id: str) -> SessionValue:
        """Find a session and count this as use; raises session_unknown, session_expired."""
        self._drop_expired()
        value = self._values.get(session_id)
        if value is None:
            if self._values.has_ended(session_id):
                raise Problem("session_expired", f"idle for more than {self._settings.idle_timeout_s:g} s")
            raise Problem("session_unknown", "no session has this id; open one with POST /v1/sessions")
        now = self._clock()
        # To the second would do: a session is idle for an hour before it ends.
        if now - value.used_at >= 1:
            self._values.touch(session_id, now)
            return replace(value, used_at=now)
        return value

    def expires_in_s(self, value: SessionValue) -> int:
        """Whole seconds until a session that `get` or `create` gave ends, unless it is used before."""
        return max(0, int(value.used_at + self._settings.idle_timeout_s - self._clock()))

    def delete(self, session_id: str) -> None:
        """Forget a session; raises like `get`."""
        self.get(session_id)
        self._values.delete(session_id)
        self._masks.forget(session_id)

    def current(self, session_id: str) -> Outcome:
        """The mask as it stands, recomputed if its cache was evicted."""
        with self._locks.alone(session_id):
            value = self.get(session_id)
            return _outcome(value, self._mask(value, value.clicks))

    def change(self, session_id: str, change: Change, sequence: int | None = None) -> Outcome:
        """Make a change; the repetition of the last one, by `sequence` and content, answers the same again.

        Raises stale_sequence if `sequence` is not the next number, bad_click for a click that cannot be made. Undo and
        redo with nothing to do count as changes that change nothing, so that every client counts alike.
        """
        with self._locks.alone(session_id):
            value = self.get(session_id)
            if sequence is not None and sequence == value.sequence and change == value.last_change:
                return _outcome(value, self._mask(value, value.clicks))
            if sequence is not None and sequence != value.sequence + 1:
                raise Problem("stale_sequence", f"got change {sequence}: expected {value.sequence + 1}", "/sequence")
            history, position = self._next(value, change)
            made = self._mask(value, history[:position])
            after = value.after(change, history, position)
            if not self._values.commit(after, value.sequence):
                raise Problem("stale_sequence", "another change of this session came first", "/sequence")
            return _outcome(after, made)

    def _next(self, value: SessionValue, change: Change) -> tuple[tuple[Click, ...], int]:
        history, position = value.history, value.position
        if change.click is not None:
            check_wire_click(change.click, value.hw)
            if position >= self._settings.max_clicks:
                raise Problem("bad_click", f"the session has {position} clicks, the most that are allowed")
            return (*history[:position], change.click), position + 1
        return history, {"undo": max(position - 1, 0), "redo": min(position + 1, len(history)), "clear": 0}[change.kind]

    def _mask(self, value: SessionValue, clicks: tuple[Click, ...]) -> Made:
        return self._masks.mask(value.id, lambda: self._values.image(value.image_sha256), value.initial_mask, clicks)

    def _drop_expired(self) -> None:
        self._values.expire(self._clock() - self._settings.idle_timeout_s)


def _outcome(value: SessionValue, made: Made) -> Outcome:
    return Outcome(made=made, clicks=value.clicks, num_redo=value.num_redo, sequence=value.sequence)


def check_wire_click(click: Click, hw: tuple[int, int]) -> None:
    """Raise Problem bad_click unless the click lies on the image of (height, width)."""
    try:
        check_click(click.y, click.x, hw)
    except InputError as error:
        inside = 0 <= click.x <= hw[1] - 1
        raise Problem("bad_click", str(error), "/y" if inside else "/x") from None
