"""Who may come in: requests without a token, or without one of the role, are refused."""

import base64
import contextlib

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.core.problems import Problem
from serve.core.tokens import Token, find
from serve.http.shield import path_of, refuse

PROBES = ("/v1/health/live", "/v1/health/ready")
OPEN = ("", "/", "/openapi.json", "/api/functions", "/api/function_invocations", *PROBES)
OPEN_UNDER = ("/web/", "/api/functions/")
"""Where no token is asked for: the page itself, which has no data, the probes of an orchestrator, and CVAT's calls,
which bring none and are let in by address (serve/faces/cvat.py)."""
ADMIN_UNDER = ("/v1/admin/", "/metrics")


class Access:
    """ASGI middleware: refuses requests without a token, or without one of the role. Without tokens it lets all in."""

    def __init__(self, app: ASGIApp, tokens: tuple[Token, ...]) -> None:
        self.app, self._tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self._tokens and scope["type"] in ("http", "websocket"):
            path = path_of(scope)
            # What is open is listed, not what is closed: a route that is added later is closed.
            if path not in OPEN and not path.startswith(OPEN_UNDER):
                try:
                    token = find(secret_of(scope), self._tokens)
                    if path.startswith(ADMIN_UNDER) and token.role != "admin":
                        raise Problem("forbidden", f"this address is for the role admin; the token is {token.role}'s")
                except Problem as problem:
                    await refuse(problem, scope, send)
                    return
                scope["state"]["token"] = token.name
        await self.app(scope, receive, send)


def secret_of(scope: Scope) -> str:
    """The secret that a request brings; raises token_missing.

    Pages cannot set headers of a WebSocket: there it may be the subprotocol after "bearer". Label Studio knows names
    and passwords only: there it is the password, whatever the name.
    """
    headers = dict(scope["headers"])
    scheme, _, secret = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if scheme.lower() == "bearer" and secret.strip():
        return secret.strip()
    if scheme.lower() == "basic":
        with contextlib.suppress(ValueError):
            _, _, password = base64.b64decode(secret.strip(), validate=True).decode().partition(":")
            if password:
                return password
    offered = scope.get("subprotocols") or ()
    if len(offered) >= 2 and offered[0] == "bearer":
        return offered[1]
    raise Problem("token_missing", "send the header Authorization: Bearer SECRET")
