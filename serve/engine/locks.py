"""Work under way: one at a time for each key, and whether it gets on."""

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from serve.observing import metrics


class _Lock:
    def __init__(self) -> None:
        self.held = threading.Lock()


class KeyedLocks:
    """A lock for each key: made when wanted, and gone with the last that holds it or waits for it."""

    def __init__(self, at: str = "session") -> None:
        """`at`: what is waited for, as in metrics.QUEUE_MS."""
        self._at = at
        self._locks: weakref.WeakValueDictionary[str, _Lock] = weakref.WeakValueDictionary()
        self._guard = threading.Lock()

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Let no other thread in with this key while the block runs."""
        with self._guard:
            lock = self._locks.get(key)
            if lock is None:
                lock = self._locks[key] = _Lock()
        started = time.perf_counter()
        with lock.held:
            metrics.since(metrics.QUEUE_MS, started, self._at)
            yield


class Progress:
    """Whether work that is under way gets on: how long ago some of it began or ended."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._guard = clock, threading.Lock()
        self._under_way, self._moved_at = 0, 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Be under way while the block runs."""
        with self._guard:
            if self._under_way == 0:
                self._moved_at = self._clock()
            self._under_way += 1
        try:
            yield
        finally:
            with self._guard:
                self._under_way -= 1
                self._moved_at = self._clock()

    def idle_s(self) -> float:
        """Seconds in which nothing moved; 0 while nothing is under way."""
        with self._guard:
            return self._clock() - self._moved_at if self._under_way else 0.0
