"""Sessions as values: (image, initial mask, clicks) reproduces every mask; everything else is a cache that may vanish.

The store is in memory and safe to call from many threads. Locks are taken in one order: a session's own, then the
store's, and the store's is never held while anything is computed.
"""

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from models.errors import InputError
from models.interaction import Click, check_click
from serve.engine import Engine, PredictorSession
from serve.images import decode_image
from serve.problems import Problem
from serve.settings import Settings

NUM_TOMBSTONES = 10_000  # how many ended sessions are remembered, to tell 410 from 404


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One accepted change: "click", "undo", "redo" or "clear"."""

    kind: str
    click: Click | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Record:
    """One session: its value, and the cache beside it. `history[:position]` are the clicks in force."""

    id: str
    data: bytes
    image_sha256: str
    hw: tuple[int, int]
    initial_mask: np.ndarray | None
    model_version: str
    used_at: float
    history: tuple[Click, ...] = ()
    position: int = 0
    sequence: int = 0
    last_change: Change | None = None
    cache: PredictorSession | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def clicks(self) -> tuple[Click, ...]:
        """The clicks in force."""
        return self.history[: self.position]

    @property
    def stored_bytes(self) -> int:
        """Memory of the value."""
        return len(self.data) + (0 if self.initial_mask is None else self.initial_mask.nbytes)

    @property
    def cache_bytes(self) -> int:
        """Estimated memory of the cache: float32 RGB image, a float32 mask per click and one more, cached features."""
        height, width = self.hw
        if self.cache is None:
            return 0
        return height * width * (12 + 4 * (self.position + 1)) + self.cache.memory_bytes


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """State of a session after a change; `mask` bool (h, w)."""

    mask: np.ndarray
    clicks: tuple[Click, ...]
    num_redo: int
    sequence: int


class SessionStore:
    """All sessions of one replica. Methods raise Problem and may take as long as a forward: call them in a thread."""

    def __init__(self, engine: Engine, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine, self._settings, self._clock = engine, settings, clock
        self._records: OrderedDict[str, Record] = OrderedDict()  # least recently used first
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        with self._lock:
            self._drop_expired()
            return len(self._records)

    def check_room(self, num_bytes: int) -> None:
        """Raise at_capacity unless a session with so many bytes to store fits: to be asked before decoding."""
        with self._lock:
            self._drop_expired()
            self._check_room(num_bytes)

    def create(self, data: bytes, image: np.ndarray, initial_mask: np.ndarray | None) -> Record:
        """Start a session on an image file and its decoded pixels; raises at_capacity."""
        session = self._engine.open(image, initial_mask)
        record = Record(
            id=secrets.token_urlsafe(24),
            data=data,
            image_sha256=hashlib.sha256(data).hexdigest(),
            hw=(image.shape[0], image.shape[1]),
            initial_mask=initial_mask,
            model_version=self._engine.model_version,
            used_at=self._clock(),
            cache=session,
        )
        with self._lock:
            self._drop_expired()
            self._check_room(record.stored_bytes)
            self._records[record.id] = record
            self._evict(keep=record)
        return record

    def get(self, session_id: str) -> Record:
        """Find a session and count this as use; raises session_unknown, session_expired."""
        with self._lock:
            self._drop_expired()
            record = self._records.get(session_id)
            if record is None:
                if session_id in self._ended:
                    raise Problem("session_expired", f"idle for more than {self._settings.idle_timeout_s:g} s")
                raise Problem("session_unknown", "no session has this id; open one with POST /v1/sessions")
            record.used_at = self._clock()
            self._records.move_to_end(session_id)
            return record

    def delete(self, session_id: str) -> None:
        """Forget a session; raises like `get`."""
        self.get(session_id)
        with self._lock:
            self._records.pop(session_id, None)

    def current(self, session_id: str) -> Outcome:
        """The mask as it stands, recomputed if its cache was evicted."""
        record = self.get(session_id)
        with record.lock:
            return self._settle(record, record.clicks)

    def change(self, session_id: str, change: Change, sequence: int | None = None) -> Outcome:
        """Make a change; the repetition of the last one, by `sequence` and content, answers the same again.

        Raises stale_sequence if `sequence` is not the next number, bad_click for a click that cannot be made. Undo and
        redo with nothing to do count as changes that change nothing, so that every client counts alike.
        """
        record = self.get(session_id)
        with record.lock:
            if sequence is not None and sequence == record.sequence and change == record.last_change:
                return self._settle(record, record.clicks)
            if sequence is not None and sequence != record.sequence + 1:
                raise Problem("stale_sequence", f"got change {sequence}: expected {record.sequence + 1}", "/sequence")
            history, position = self._next(record, change)
            mask = self._settle(record, history[:position]).mask
            record.history, record.position = history, position
            record.sequence, record.last_change = record.sequence + 1, change
            return self._outcome(record, mask)

    def _next(self, record: Record, change: Change) -> tuple[tuple[Click, ...], int]:
        history, position = record.history, record.position
        if change.click is not None:
            check_wire_click(change.click, record.hw)
            if position >= self._settings.max_clicks:
                raise Problem("bad_click", f"the session has {position} clicks, the most that are allowed")
            return (*history[:position], change.click), position + 1
        return history, {"undo": max(position - 1, 0), "redo": min(position + 1, len(history)), "clear": 0}[change.kind]

    def _settle(self, record: Record, clicks: tuple[Click, ...]) -> Outcome:
        # Detached while it moves: if the network fails half way, no half-moved cache is left behind.
        with self._lock:
            session, record.cache = record.cache, None
        if session is None:
            with self._engine.opening:
                image = decode_image(record.data, self._settings.max_pixels)
                session = self._engine.open(image, record.initial_mask)
        mask = self._engine.walk(session, clicks).mask
        with self._lock:
            record.cache = session
            self._evict(keep=record)
        return self._outcome(record, mask)

    def _outcome(self, record: Record, mask: np.ndarray) -> Outcome:
        num_redo = len(record.history) - record.position
        return Outcome(mask=mask, clicks=record.clicks, num_redo=num_redo, sequence=record.sequence)

    def _check_room(self, num_bytes: int) -> None:
        stored = sum(other.stored_bytes for other in self._records.values()) + num_bytes
        full = len(self._records) >= self._settings.max_sessions
        if full or (self._records and stored > self._settings.max_stored_bytes):
            raise Problem("at_capacity", f"{len(self._records)} sessions are open; try again", retry_after_s=5)

    def _evict(self, keep: Record) -> None:
        total = sum(record.cache_bytes for record in self._records.values())
        for record in self._records.values():
            if total <= self._settings.max_cache_bytes:
                return
            if record is not keep:
                total -= record.cache_bytes
                record.cache = None

    def _drop_expired(self) -> None:
        oldest_allowed = self._clock() - self._settings.idle_timeout_s
        while self._records and next(iter(self._records.values())).used_at < oldest_allowed:
            session_id, _ = self._records.popitem(last=False)
            self._ended[session_id] = None
        while len(self._ended) > NUM_TOMBSTONES:
            self._ended.popitem(last=False)


def check_wire_click(click: Click, hw: tuple[int, int]) -> None:
    """Raise Problem bad_click unless the click lies on the image of (height, width)."""
    try:
        check_click(click.y, click.x, hw)
    except InputError as error:
        inside = 0 <= click.x <= hw[1] - 1
        raise Problem("bad_click", str(error), "/y" if inside else "/x") from None
