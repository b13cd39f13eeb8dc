"""Memory: too little of it on a device, and what the C library keeps after use, which is given back now and then."""

import ctypes
import gc
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from serve.core.problems import Problem

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


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether a device had too little memory, also in another process whose error Ray wraps."""
    torch = sys.modules.get("torch")
    if torch is None or error is None:
        return False
    return any(isinstance(each, torch.OutOfMemoryError) for each in (error, getattr(error, "cause", None)))


def free_memory(error: BaseException) -> None:
    """Give back what a failed forward holds: nothing of it may stay until the next one fails too."""
    torch = sys.modules.get("torch")
    traceback.clear_frames(error.__traceback__)  # their tensors live as long as the error does
    if torch is not None and torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


@contextmanager
def memory_as_problem() -> Iterator[None]:
    """Raise gpu_oom where a device has too little memory for what the block does, and free what it took."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        free_memory(error)
        raise Problem("gpu_oom", "the image or its refinement is too large for it now", retry_after_s=5) from None
