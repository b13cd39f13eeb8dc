"""Locks by key, and a measure of whether running work makes progress."""

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
    """A lock per key, which exists as long as a thread holds it or waits for it."""

    def __init__(self, at: str = "session") -> None:
        """`at`: label of the wait in metrics.QUEUE_MS."""
        self._at = at
        self._locks: weakref.WeakValueDictionary[str, _Lock] = weakref.WeakValueDictionary()
        self._guard = threading.Lock()

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Exclude other threads with this key while the block runs."""
        with self._guard:
            lock = self._locks.get(key)
            if lock is None:
                lock = self._locks[key] = _Lock()
        started = time.perf_counter()
        with lock.held:
            metrics.since(metrics.QUEUE_MS, started, self._at)
            yield


class Progress:
    """Measures how long concurrent work has been running without any of it ending."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._guard = clock, threading.Lock()
        self._under_way, self._moved_at = 0, 0.0

    @contextmanager
    def step(self) -> Iterator[None]:
        """Count the block as running work."""
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
        """Return the seconds without progress; 0 while no work is running."""
        with self._guard:
            return self._clock() - self._moved_at if self._under_way else 0.0
