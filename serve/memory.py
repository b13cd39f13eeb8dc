"""Memory that the C library keeps after use: given back now and then, so that no process outgrows what it holds."""

import ctypes
import threading
import time
from collections.abc import Callable

EVERY_S = 60.0


def give_back() -> None:
    """Return unused pages to the system (glibc; elsewhere nothing happens). It takes up to 50 ms."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class NowAndThen:
    """Calls `action` when asked to, but no sooner than `every_s` after the last time."""

    def __init__(
        self,
        action: Callable[[], None] = give_back,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._action, self._every_s, self._clock = action, every_s, clock
        self._last, self._guard = clock(), threading.Lock()

    def __call__(self) -> None:
        """Act, if it is time."""
        with self._guard:
            now = self._clock()
            if now - self._last < self._every_s:
                return
            self._last = now
        self._action()
