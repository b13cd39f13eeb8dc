"""Measure, and optionally log, every request and every message of a live socket."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http.shield import as_problem
from serve.observing import logs, metrics
from serve.observing.record import Record, current, named_by

HEADER = "X-Request-ID"
STARTS = ("http.response.start", "websocket.http.response.start", "websocket.accept")
GONE = "gone"
"""Status of a request whose client left before it was answered."""
APPLICATION, LEFT = "maskwright", 499
"""Ray Serve's name of the application, and its status for a request whose client left."""


class Observe:
    """ASGI middleware; see the module. `behind_serve`: a proxy of Ray Serve assigns ids to requests and counts them."""

    def __init__(self, app: ASGIApp, behind_serve: bool = False) -> None:
        self.app, self._behind_serve = app, behind_serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0
        record = Record(request_id=named_by(_given(scope)))

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] in STARTS:
                status = message.get("status", 101)
                if not self._behind_serve:
                    message.setdefault("headers", [])
                    MutableHeaders(scope=message)[HEADER] = record.request_id
            await send(message)

        token = current.set(record)
        try:
            await self.app(scope, receive, send_named)
        finally:
            current.reset(token)
            record.session_id = scope.get("path_params", {}).get("session_id")
            is_socket = scope["type"] == "websocket"
            if not is_socket and not self._behind_serve:
                _count(scope["method"], route_of(scope), str(status or LEFT), started)
            _finish(record, "WS" if is_socket else scope["method"], route_of(scope), status, started, is_socket)


@contextmanager
def message(route: str, session_id: str, request_id: str | None) -> Iterator[Record]:
    """Measure and log the block, which applies one message of a live socket; `request_id` is that of the socket."""
    started, status = time.perf_counter(), 200
    record = Record(request_id=named_by(request_id), session_id=session_id)
    token = current.set(record)
    try:
        yield record
    except Exception as error:
        problem = as_problem(error)
        record.code, status = problem.code, problem.status
        raise
    finally:
        current.reset(token)
        _finish(record, "WS", route, status, started)


@contextmanager
def work(call: str, request_id: str, session_id: str | None = None) -> Iterator[None]:
    """Measure and log the block, a replica's work for a request; `request_id` comes from the ingress."""
    started, record = time.perf_counter(), Record(request_id=request_id, session_id=session_id)
    token = current.set(record)
    try:
        yield
    except Exception as error:
        record.code = as_problem(error).code
        raise
    finally:
        current.reset(token)
        metrics.since(metrics.WORK_MS, started, call)
        if logs.requests.isEnabledFor(logging.INFO):
            logs.tell("work", record, call=call, ms=round(1000 * (time.perf_counter() - started), 2))


def route_of(scope: Scope) -> str:
    """Return the template of a request's route, or "unmatched"; the address itself never enters logs or metrics."""
    return getattr(scope.get("route"), "path", None) or "unmatched"


def _count(method: str, route: str, status: str, started: float) -> None:
    """Count a request as Ray Serve's proxies do, for Ray's dashboards."""
    metrics.put(metrics.HTTP_REQUESTS, 1, route, method, APPLICATION, status)
    metrics.since(metrics.HTTP_MS, started, method, route, APPLICATION, status)
    if status >= "400":
        metrics.put(metrics.HTTP_ERRORS, 1, route, status, method, APPLICATION)


def _finish(record: Record, method: str, route: str, status: int, started: float, is_socket: bool = False) -> None:
    milliseconds = 1000 * (time.perf_counter() - started)
    kind = f"{status // 100}xx" if status else GONE
    if not is_socket:  # a socket may stay open for long, so its messages are measured instead
        metrics.put(metrics.REQUEST_MS, milliseconds, route, kind, record.model, record.click)
    if record.code is not None:
        metrics.put(metrics.PROBLEMS, 1, route, record.code)
    if logs.requests.isEnabledFor(logging.INFO):
        logs.tell(
            "socket" if is_socket else "request",
            record,
            method=method,
            route=route,
            status=status or GONE,
            ms=round(milliseconds, 2),
        )


def _given(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value.decode("latin-1")
    return None
