"""Add security headers to every answer, and turn failures into problem+json with an id that the log has too."""

import json
import logging
import secrets

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.core.problems import Problem
from serve.engine.engine import ModelNan
from serve.observing.record import hide_sessions, note_problem, request_id

CSP = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
logger = logging.getLogger("maskwright.serve")


class Shield:
    """ASGI middleware; see the module. Only Observe and BehindProxy are outside of it. No traceback leaves it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        instance = new_instance()
        scope.setdefault("state", {})["instance"] = instance
        if scope["type"] == "websocket":  # serve/http/live.py answers the failure of each message
            await self.app(scope, receive, send)
            return
        started = False

        async def send_shielded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if path_of(scope).startswith("/v1/"):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self.app(scope, receive, send_shielded)
        except Exception as error:
            logger.exception("%s %s failed (%s)", scope["method"], hide_sessions(scope["path"]), instance)
            if started:
                raise
            await send_problem(as_problem(error), instance, send_shielded)


def path_of(scope: Scope) -> str:
    """Return the path within the app, without the path under which a proxy publishes it."""
    return scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))


async def refuse(problem: Problem, scope: Scope, send: Send) -> None:
    """Answer a request with a problem before the app sees it; a WebSocket is not accepted."""
    instance = scope["state"]["instance"]
    if scope["type"] == "http":
        await send_problem(problem, instance, send)
    elif "websocket.http.response" in scope.get("extensions", {}):
        await send_problem(problem, instance, send, "websocket.http.response")
    else:
        await send({"type": "websocket.close", "code": 1008, "reason": problem.code})


def new_instance() -> str:
    """Return a new id of an answer, which appears in a problem and in the log."""
    return f"urn:uuid:{secrets.token_hex(16)}"


def as_problem(error: Exception) -> Problem:
    """Return the problem that clients may see of a failure."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ModelNan):
        return Problem("model_nan", "the click was not applied: try another one")
    return Problem("internal", "an unexpected failure: look for this instance in the server's log")


async def send_problem(problem: Problem, instance: str, send: Send, message: str = "http.response") -> None:
    """Send a problem+json answer in ASGI messages of the given kind."""
    note_problem(problem.code)
    body = json.dumps(problem.body(instance, request_id())).encode()
    headers = {"content-type": "application/problem+json", "content-length": str(len(body)), **problem.headers()}
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": f"{message}.start", "status": problem.status, "headers": pairs})
    await send({"type": f"{message}.body", "body": body})
