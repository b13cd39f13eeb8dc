"""Who may come in: tokens with roles. The server holds their SHA-256 only, so that its file lets no one in.

`python -m serve.access NAME ROLE` makes a token: the secret for its owner, and the line for the server's file.
"""

import base64
import contextlib
import hashlib
import hmac
import re
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from starlette.types import ASGIApp, Receive, Scope, Send

from models.errors import InputError
from serve.problems import Problem
from serve.settings import Role, Token
from serve.shield import path_of, refuse

ROLES: tuple[Role, ...] = get_args(Role)
NAME = re.compile(r"[\w.@-]{1,64}")
OPEN = ("/", "/openapi.json", "/v1/health/live", "/api/functions", "/api/function_invocations")
OPEN_UNDER = ("/web/", "/api/functions/")
"""Where no token is asked for: the page itself, which has no data, whether the process lives, and CVAT's calls, which
bring none and are let in by address (serve/faces/cvat.py)."""
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


def find(secret: str, tokens: Sequence[Token]) -> Token:
    """The token of a secret; raises token_wrong. It takes as long whichever it is."""
    digest, found = digest_of(secret), None
    for token in tokens:
        if hmac.compare_digest(token.sha256, digest):
            found = token
    if found is None:
        raise Problem("token_wrong", "no token has this secret")
    return found


def digest_of(secret: str) -> str:
    """What the server keeps of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def read_tokens(path: Path) -> tuple[Token, ...]:
    """Read a file of lines `name role sha256hex`; empty lines and # comments count for nothing. Raises InputError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the file of tokens {path} cannot be read: {error}") from None
    tokens: list[Token] = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            tokens.append(_token(words))
        except ValueError as error:
            # Never the line itself: somebody may have put a secret there.
            raise InputError(f"{path}, line {number}: {error}; `python -m serve.access NAME ROLE` makes one") from None
    if not tokens:
        raise InputError(f"the file of tokens {path} holds none; `python -m serve.access NAME ROLE` makes one")
    if len({token.name for token in tokens}) < len(tokens) or len({token.sha256 for token in tokens}) < len(tokens):
        raise InputError(f"{path}: two tokens have the same name or secret; give each person their own")
    return tuple(tokens)


def _token(words: list[str]) -> Token:
    if len(words) != 3:
        raise ValueError(f"expected name, role and SHA-256, got {len(words)} words")
    name, role, sha256 = words
    if not NAME.fullmatch(name):
        raise ValueError("the name is not 1 to 64 letters, digits, or any of . _ @ -")
    if role not in ROLES:
        raise ValueError(f"the role is not one of {', '.join(ROLES)}")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ValueError("the third word is not a SHA-256 of 64 hex digits")
    return Token(name=name, role=role, sha256=sha256.lower())


def new_token(name: str, role: str) -> tuple[str, str]:
    """Make a fresh secret, and the line for the server's file; raises InputError."""
    secret = secrets.token_urlsafe(32)
    line = f"{name} {role} {digest_of(secret)}"
    try:
        _token([name, role, digest_of(secret)])
    except ValueError as error:
        raise InputError(str(error)) from None
    return secret, line


def main() -> None:
    """Entry point: print a new token; the line alone goes to stdout, so that `>> FILE` is all that it takes."""
    if len(sys.argv) != 3:
        sys.stderr.write(f"usage: python -m serve.access NAME ROLE   (roles: {', '.join(ROLES)})\n")
        sys.exit(2)
    try:
        secret, line = new_token(sys.argv[1], sys.argv[2])
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    sys.stderr.write(f"secret, for its owner, shown this once: {secret}\n")
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
