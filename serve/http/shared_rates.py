"""Count rates of several ingresses together in the Redis of their sessions, or separately while it does not answer.

The library `limits` counts in moving windows. They allow the same burst and the same long-term rate as token buckets,
but a client that has used up a window waits until its oldest request leaves it, while a bucket refills steadily.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis.exceptions import RedisError

from serve.sessions.store_redis import PREFIX, pool_of

TIMEOUT_S = 0.5
"""Timeout of a call to Redis, for which a click waits."""
RETRY_S = 5.0
"""Seconds for which an ingress counts separately after a failed call."""
NUM_THREADS = 4
Client = tuple[str, str]
"""Address, and name of the token."""

logger = logging.getLogger("maskwright.serve")


class SharedRates:
    """Rate limits in one Redis, to which the first request connects."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        storage = RedisStorage("redis://", connection_pool=pool_of(url, TIMEOUT_S), key_prefix=f"{PREFIX}rates")
        self._windows, self._clock = MovingWindowRateLimiter(storage), clock
        self._threads = ThreadPoolExecutor(NUM_THREADS, "rates")
        self._alone_until: float | None = None  # by the clock; None: Redis answers

    def share(
        self, what: str, per_second: float, burst: float, alone: Callable[[Client], float]
    ) -> Callable[[Client], Awaitable[float]]:
        """Return a limit that Redis counts under the name `what`; `alone` counts while Redis does not answer."""
        window = window_of(what, per_second, burst)

        async def take(client: Client) -> float:
            until = self._alone_until
            if until is None or self._clock() >= until:
                if until is not None:
                    self._alone_until = self._clock() + RETRY_S  # only one request tries Redis again
                try:
                    asked = partial(self._ask, window, client, retries=until is not None)
                    waits = await asyncio.get_running_loop().run_in_executor(self._threads, asked)
                except RedisError as error:
                    self._lost(error)
                else:
                    self._found()
                    return waits
            return alone(client)

        return take

    def _ask(self, window: RateLimitItem, client: Client, *, retries: bool) -> float:
        if self._alone_until is not None and not retries:
            raise RedisError("Redis failed while this call waited for a thread")
        if self._windows.hit(window, *client):
            return 0.0
        # A refusal is not counted. The window may have moved between the two calls, hence the maximum.
        return max(self._windows.get_window_stats(window, *client).reset_time - time.time(), 1e-3)

    def _lost(self, error: RedisError) -> None:
        if self._alone_until is None:
            logger.warning("each process counts rates separately: Redis does not answer (%s)", type(error).__name__)
        self._alone_until = self._clock() + RETRY_S

    def _found(self) -> None:
        if self._alone_until is not None:
            logger.warning("rates are counted together again: Redis answers")
        self._alone_until = None


def window_of(what: str, per_second: float, burst: float) -> RateLimitItem:
    """Return the window with the burst and the rate of a bucket, rounded to whole seconds and never above the rate."""
    seconds = math.ceil(max(burst, 1.0) / per_second - 1e-9)
    return RateLimitItemPerSecond(max(1, math.floor(per_second * seconds + 1e-9)), seconds, what)
