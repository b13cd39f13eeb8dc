"""One at a time for each key: locks that are made when wanted and vanish with the last who holds them."""

import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

from serve import metrics


class _Lock:
    def __init__(self) -> None:
        self.held = threading.Lock()


class KeyedLocks:
    """A lock for each key, as long as somebody holds it or waits for it."""

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
