"""Limit how fast a client may send requests, with token buckets and a middleware.

If sessions are in Redis, all ingresses count there together (shared_rates.py).
"""

import math
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.core.options import Options
from serve.core.problems import Problem
from serve.http.shield import path_of, refuse
from serve.sessions.open_store import is_url

MAX_CLIENTS = 10_000
"""Number of clients that are remembered; the least recent ones are dropped, and start again with a full bucket."""
OPENING = re.compile(r"/v1/(sessions|predict)/?")
CLICKING = re.compile(r"/v1/sessions/[^/]+/(clicks|undo|redo|clear|mask|live)/?")
BURST_S = 2.0
Client = tuple[str, str]
"""Address, and name of the token."""
Take = Callable[[Client], Awaitable[float]]
"""Takes one token of a client; returns 0, or the seconds until the next token."""


class Buckets:
    """A token bucket per key: it holds at most `burst` tokens and gains `per_second`. Not thread-safe."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._burst, self._clock = per_second, max(burst, 1.0), clock
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # level, and the time of that level

    def take(self, key: Hashable) -> float:
        """Take one token; return 0, or the seconds until the next token. A refusal takes none."""
        now = self._clock()
        level, since = self._levels.pop(key, (self._burst, now))
        # A clock that was set back adds nothing once.
        level = min(self._burst, level + max(now - since, 0.0) * self._per_second)
        enough = level >= 1.0 - 1e-9  # in floating point, ten times 0.1 is less than 1
        self._levels[key] = (level - 1.0 if enough else level, now)
        while len(self._levels) > MAX_CLIENTS:
            self._levels.popitem(last=False)
        return 0.0 if enough else (1.0 - level) / self._per_second

    async def taken(self, client: Client) -> float:
        """Like `take`, as a Take."""
        return self.take(client)


class Rates:
    """The rate limits of Options, counted per client."""

    def __init__(self, options: Options, clock: Callable[[], float] = time.monotonic) -> None:
        share: Callable[[str, float, float, Callable[[Client], float]], Take] | None = None
        if options.sessions and is_url(options.sessions):
            from serve.http.shared_rates import SharedRates  # imported only where it is used, since it is slow

            share = SharedRates(options.sessions).share

        def limit(what: str, per_second: float, burst: float) -> Take:
            if per_second == 0:
                return _free
            alone = Buckets(per_second, burst, clock)
            return alone.taken if share is None else share(what, per_second, burst, alone.take)

        clicks, opens = options.clicks_per_second, options.opens_per_minute
        self._clicks = limit("clicks", clicks, BURST_S * clicks)
        self._opens = limit("opens", opens / 60, opens)

    async def click(self, client: Client) -> Problem | None:
        """Count a click; return too_many if the limit is exceeded, else None."""
        return _refusal(await self._clicks(client), "clicks")

    async def open(self, client: Client) -> Problem | None:
        """Count a new image; return too_many if the limit is exceeded, else None."""
        return _refusal(await self._opens(client), "images")


class RateLimit:
    """ASGI middleware that refuses requests beyond the limits; serve/http/live.py counts messages of WebSockets."""

    def __init__(self, app: ASGIApp, rates: Rates) -> None:
        self.app, self._rates = app, rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] in ("http", "websocket"):
            path = path_of(scope)
            problem = None
            if OPENING.fullmatch(path):
                problem = await self._rates.open(client_of(scope))
            elif CLICKING.fullmatch(path):
                problem = await self._rates.click(client_of(scope))
            if problem is not None:
                await refuse(problem, scope, send)
                return
        await self.app(scope, receive, send)


def client_of(scope: Scope) -> Client:
    """Return address and token name of a client; behind an untrusted proxy, all addresses are the proxy's."""
    address = scope.get("client") or ("", 0)
    return str(address[0]), scope["state"].get("token", "")


async def _free(client: Client) -> float:
    return 0.0


def _refusal(wait_s: float, what: str) -> Problem | None:
    if wait_s == 0:
        return None
    wait_s = math.ceil(wait_s)
    return Problem("too_many", f"too many {what} from this client: wait {wait_s} s", retry_after_s=wait_s)
