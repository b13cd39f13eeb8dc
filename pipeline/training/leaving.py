"""Decide at which step all workers write a checkpoint because a node is about to leave. Does not import Ray."""

import time
from collections.abc import Callable, Collection

EVERY_S = 2.0
"""Seconds between checks. Ray polls for notices every 5 s, and at a check all workers wait for each other."""


class Leaving:
    """Called after each step: returns true, once per node that is about to leave, if a checkpoint is due.

    `ask` returns these nodes and `agree` returns rank 0's number. Both wait for all workers and return the same on all
    of them, so every worker must call them at the same steps: rank 0 measures the speed of steps and sets the step of
    the next check.
    """

    def __init__(self, ask: Callable[[], Collection[str]], agree: Callable[[int], int]) -> None:
        self.ask, self.agree = ask, agree
        self.known: set[str] = set()
        self.looked: tuple[int, float] | None = None
        self.next = 0

    def __call__(self, step: int) -> bool:
        """Check, if it is time to, and return whether a node is leaving that was not leaving before."""
        if step < self.next:
            return False
        named = set(self.ask())
        self.next = step + self.agree(self._steps_between(step))
        new = named - self.known
        self.known |= named
        return bool(new)

    def _steps_between(self, step: int) -> int:
        now, before = time.monotonic(), self.looked
        self.looked = step, now
        if before is None:
            return 1
        num_steps, seconds = step - before[0], max(now - before[1], 1e-9)
        # At most twice as many steps as last time: a few quick steps predict little.
        return max(1, min(int(EVERY_S / seconds * num_steps), 2 * num_steps))
