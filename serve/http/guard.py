"""Refuse what a browser may be tricked into: host names by DNS rebinding, and requests from pages of other sites."""

import ipaddress
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.core.problems import Problem
from serve.http.shield import refuse

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
DEFAULT_PORTS = {"http": 80, "https": 443}
ANY_ADDRESS = ("0.0.0.0", "::")
"""Listening addresses with which every IP address is accepted as Host; rebinding always needs a name."""
ANY_NAME = "*"
DIRECT_HOST = "direct_host"
"""Key in a request's state for its original Host, if a proxy forwarded another one (serve/http/forwarded.py)."""


class Guard:
    """ASGI middleware that refuses unknown Host headers, and changes from pages of other origins."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...] = (), origins: tuple[str, ...] = ()) -> None:
        self.app = app
        self._hosts = frozenset(host.lower().strip("[]") for host in hosts)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] in ("http", "websocket"):
            try:
                self.check(scope)
            except Problem as problem:
                await refuse(problem, scope, send)
                return
        await self.app(scope, receive, send)

    def check(self, scope: Scope) -> None:
        """Raise bad_host or bad_origin if the request must be refused."""
        named = [value.decode("latin-1") for key, value in scope["headers"] if key == b"host"]
        host = named[0] if len(named) == 1 else ""
        # Check both, because a page that rebinds a name to a proxy's address can set any other header.
        direct = scope.get("state", {}).get(DIRECT_HOST, host)
        if not all(is_ours(split_host(each)[0], self._hosts) for each in (host, direct)):
            raise Problem("bad_host", "the Host header is not a name of this server: add it to the option `hosts`")
        if scope["type"] == "http" and scope["method"] in SAFE_METHODS:
            return
        # Browsers always send an Origin here; other clients cannot be tricked in this way.
        for key, value in scope["headers"]:
            origin = value.decode("latin-1").lower()
            if key == b"origin" and origin not in self._origins and not is_same(origin, host):
                raise Problem(
                    "bad_origin", "pages of other sites may not do this: add their origin to the option `origins`"
                )


def is_ours(name: str, hosts: frozenset[str]) -> bool:
    """Return whether the server accepts this host name."""
    if name and (name == "localhost" or name in hosts or ANY_NAME in hosts):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or any(each in hosts for each in ANY_ADDRESS)


def is_same(origin: str, host: str) -> bool:
    """Return whether an Origin belongs to this Host; the scheme may differ, as behind a proxy that terminates TLS."""
    scheme, separator, rest = origin.partition("://")
    if not separator or scheme not in DEFAULT_PORTS or not rest:
        return False
    default = DEFAULT_PORTS[scheme]
    (name, port), (our_name, our_port) = split_host(rest), split_host(host)
    return bool(name) and (name, port or default) == (our_name, our_port or default)


def split_host(host: str) -> tuple[str, int | None]:
    """Return the name in lower case and the port of a Host header; an empty name if it cannot be parsed."""
    try:
        parts = urlsplit(f"//{host}")
        port = parts.port
    except ValueError:
        return "", None
    # Accept only a name and a port, without a user or a path.
    if parts.netloc != host or "@" in host or parts.hostname is None:
        return "", None
    return parts.hostname.rstrip("."), port
