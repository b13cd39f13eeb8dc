"""Handle out-of-memory errors of a device, and return unused memory of the C library to the system."""

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
    """Return unused pages to the system (only with glibc). This takes up to 50 ms."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class NowAndThen:
    """Calls `action`, unless less than `every_s` seconds have passed since the last time."""

    def __init__(
        self,
        action: Callable[[], None] = give_back,
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._action, self._every_s, self._clock = action, every_s, clock
        self._last, self._guard = clock(), threading.Lock()

    def __call__(self) -> None:
        """Call the action if enough time has passed."""
        with self._guard:
            now = self._clock()
            if now - self._last < self._every_s:
                return
            self._last = now
        self._action()


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether a device ran out of memory, also if Ray wraps the error of another process."""
    torch = sys.modules.get("torch")
    if torch is None or error is None:
        return False
    return any(isinstance(each, torch.OutOfMemoryError) for each in (error, getattr(error, "cause", None)))


def free_memory(error: BaseException) -> None:
    """Free the memory of a failed forward, which might otherwise make the next one fail."""
    torch = sys.modules.get("torch")
    traceback.clear_frames(error.__traceback__)  # its frames keep tensors alive as long as the error exists
    if torch is not None and torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


@contextmanager
def memory_as_problem() -> Iterator[None]:
    """Raise gpu_oom if a device runs out of memory in the block, after freeing what the block took."""
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        free_memory(error)
        raise Problem(
            "gpu_oom", "the image or its refinement needs more memory than the device has free", retry_after_s=5
        ) from None
