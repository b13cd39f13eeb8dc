"""How fast one client may come: token buckets, and the layer that asks them.

Where sessions are in a Redis, all ingresses count there together: shared_rates.py.
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
"""Clients that are remembered; the ones longest away are forgotten, and start with a full bucket."""
OPENING = re.compile(r"/v1/(sessions|predict)/?")
CLICKING = re.compile(r"/v1/sessions/[^/]+/(clicks|undo|redo|clear|mask|live)/?")
BURST_S = 2.0
Client = tuple[str, str]
"""Address, and name of the token."""
Take = Callable[[Client], Awaitable[float]]
"""Takes one of what a client has; 0, or in how many seconds there will be one."""


class Buckets:
    """A bucket for each key: it holds `burst`, each `take` takes one, and `per_second` flow in. Not thread-safe."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second, self._burst, self._clock = per_second, max(burst, 1.0), clock
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()  # level, and when it was so

    def take(self, key: Hashable) -> float:
        """Take one; returns 0, or in how many seconds there will be one. What is refused costs nothing."""
        now = self._clock()
        level, since = self._levels.pop(key, (self._burst, now))
        # A clock that was set back only stops the flow once.
        level = min(self._burst, level + max(now - since, 0.0) * self._per_second)
        enough = level >= 1.0 - 1e-9  # ten times a tenth is less than one
        self._levels[key] = (level - 1.0 if enough else level, now)
        while len(self._levels) > MAX_CLIENTS:
            self._levels.popitem(last=False)
        return 0.0 if enough else (1.0 - level) / self._per_second

    async def taken(self, client: Client) -> float:
        """The same, as a Take."""
        return self.take(client)


class Rates:
    """The limits of Options for every client."""

    def __init__(self, options: Options, clock: Callable[[], float] = time.monotonic) -> None:
        share: Callable[[str, float, float, Callable[[Client], float]], Take] | None = None
        if options.sessions and is_url(options.sessions):
            from serve.http.shared_rates import SharedRates  # only those who use it wait for its import

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
        """Count a click; returns too_many where it is one too many."""
        return _refusal(await self._clicks(client), "clicks")

    async def open(self, client: Client) -> Problem | None:
        """Count a new image."""
        return _refusal(await self._opens(client), "images")


class RateLimit:
    """ASGI middleware: refuses what comes too fast. The messages of a WebSocket are counted by serve/http/live.py."""

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
    """Who sends this: behind a proxy that is not listed, addresses are all the same and tokens tell people apart."""
    address = scope.get("client") or ("", 0)
    return str(address[0]), scope["state"].get("token", "")


async def _free(client: Client) -> float:
    return 0.0


def _refusal(wait_s: float, what: str) -> Problem | None:
    if wait_s == 0:
        return None
    return Problem("too_many", f"too many {what} from one client; wait a little", retry_after_s=math.ceil(wait_s))
