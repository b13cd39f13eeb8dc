"""Refuse requests without a valid token, or with a token whose role is not sufficient."""

import base64
import contextlib

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.core.problems import Problem
from serve.core.tokens import Token, find
from serve.http.shield import path_of, refuse

PROBES = ("/v1/health/live", "/v1/health/ready")
OPEN = ("", "/", "/openapi.json", "/api/functions", "/api/function_invocations", *PROBES)
OPEN_UNDER = ("/web/", "/api/functions/")
"""Paths without a token: the page, which contains no data, the probes of an orchestrator, and CVAT's calls, which have
no token and are checked by address (serve/faces/cvat.py)."""
ADMIN_UNDER = ("/v1/admin/", "/metrics")


class Access:
    """ASGI middleware that refuses requests without a sufficient token. With no `tokens` it accepts all requests."""

    def __init__(self, app: ASGIApp, tokens: tuple[Token, ...]) -> None:
        self.app, self._tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self._tokens and scope["type"] in ("http", "websocket"):
            path = path_of(scope)
            # Open paths are listed, so that a route that is added later requires a token.
            if path not in OPEN and not path.startswith(OPEN_UNDER):
                try:
                    token = find(secret_of(scope), self._tokens)
                    if path.startswith(ADMIN_UNDER) and token.role != "admin":
                        raise Problem(
                            "forbidden", f"this address needs a token of the role admin; this one has {token.role}"
                        )
                except Problem as problem:
                    await refuse(problem, scope, send)
                    return
                scope["state"]["token"] = token.name
        await self.app(scope, receive, send)


def secret_of(scope: Scope) -> str:
    """Return the secret of a request; raises token_missing.

    A page cannot set headers of a WebSocket, so there the secret may be the subprotocol after "bearer". Label Studio
    supports only names and passwords, so it sends the secret as password, with any name.
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
