"""When to write a checkpoint because a node is about to go away: at a step that all workers agree on. No Ray here."""

import time
from collections.abc import Callable, Collection

EVERY_S = 2.0
"""Seconds between looks. Ray learns of it every 5 s, and a look makes all workers wait for each other."""


class Leaving:
    """Asked after each step whether to write a checkpoint there: once for each node that is said to leave.

    `ask` names those nodes and `agree` returns rank 0's number. Both wait for all workers and answer all of them the
    same, so workers come to them at the same steps: rank 0 knows how fast steps are and says when the next look is.
    """

    def __init__(self, ask: Callable[[], Collection[str]], agree: Callable[[int], int]) -> None:
        self.ask, self.agree = ask, agree
        self.known: set[str] = set()
        self.looked: tuple[int, float] | None = None
        self.next = 0

    def __call__(self, step: int) -> bool:
        """Look, if it is time to, and tell whether a node leaves that was not leaving before."""
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
        # At the most twice as many as the last time: a few quick steps tell little of those to come.
        return max(1, min(int(EVERY_S / seconds * num_steps), 2 * num_steps))
