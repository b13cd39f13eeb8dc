"""What goes wrong with a device: too little memory, and work that does not end."""

import gc
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from serve.problems import Problem


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
