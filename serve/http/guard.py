"""What a browser may be tricked into: names that lead here by DNS rebinding, and pages of other servers."""

import ipaddress
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.core.problems import Problem
from serve.http.shield import refuse

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
DEFAULT_PORTS = {"http": 80, "https": 443}
ANY_ADDRESS = ("0.0.0.0", "::")
"""As a name of the server: it goes by every IP address. Rebinding needs a name, so an address is never one."""
ANY_NAME = "*"
DIRECT_HOST = "direct_host"
"""In the state of a request: its own Host, where a proxy said another one (serve/http/forwarded.py)."""


class Guard:
    """ASGI middleware: refuses a Host that is no name of the server, and an Origin that may not change anything."""

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
        """Raise bad_host or bad_origin."""
        named = [value.decode("latin-1") for key, value in scope["headers"] if key == b"host"]
        host = named[0] if len(named) == 1 else ""
        # Both, for a page that rebinds a name to a proxy's address, such as this machine's, can write any other header.
        direct = scope.get("state", {}).get(DIRECT_HOST, host)
        if not all(is_ours(split_host(each)[0], self._hosts) for each in (host, direct)):
            raise Problem("bad_host", "the Host header is no name of this server; its setting `hosts` adds names")
        if scope["type"] == "http" and scope["method"] in SAFE_METHODS:
            return
        # Browsers always tell it here; what is no browser has nothing to be tricked with.
        for key, value in scope["headers"]:
            origin = value.decode("latin-1").lower()
            if key == b"origin" and origin not in self._origins and not is_same(origin, host):
                raise Problem("bad_origin", "pages of other servers may not do this; the setting `origins` allows some")


def is_ours(name: str, hosts: frozenset[str]) -> bool:
    """Whether the server goes by this name."""
    if name and (name == "localhost" or name in hosts or ANY_NAME in hosts):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or any(each in hosts for each in ANY_ADDRESS)


def is_same(origin: str, host: str) -> bool:
    """Whether an Origin is that of the page at this Host; the scheme may differ, as behind a proxy that ends TLS."""
    scheme, separator, rest = origin.partition("://")
    if not separator or scheme not in DEFAULT_PORTS or not rest:
        return False
    default = DEFAULT_PORTS[scheme]
    (name, port), (our_name, our_port) = split_host(rest), split_host(host)
    return bool(name) and (name, port or default) == (our_name, our_port or default)


def split_host(host: str) -> tuple[str, int | None]:
    """The name in lower case and the port of a Host header; an empty name if it cannot be read."""
    try:
        parts = urlsplit(f"//{host}")
        port = parts.port
    except ValueError:
        return "", None
    # Nothing but a name and a port: no user, no path.
    if parts.netloc != host or "@" in host or parts.hostname is None:
        return "", None
    return parts.hostname.rstrip("."), port
