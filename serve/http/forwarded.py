"""Read the headers of trusted proxies: a request's client, scheme, host, and the path under which the server is.

These are `Forwarded` (RFC 7239) and the older `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix`. uvicorn's middleware
reads `X-Forwarded-For` and `-Proto`; no library reads all of them.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from serve.core.networks import IPNetwork, is_within, parse_address, parse_networks
from serve.core.options import ROOT_PATH
from serve.http.guard import DIRECT_HOST, split_host

UNKNOWN = "unknown"
"""A client whose proxy sends no address, or an unreadable one. It is in no network."""
MAX_HOPS = 100
_PAIR = re.compile(
    r"""[ \t]*+(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s",;]*)))?[ \t]*+(;|,|$)""", re.ASCII
)
_NODE = re.compile(
    r"(?:\[(?P<in_brackets>[0-9A-Fa-f:.]+)\]|(?P<plain>[0-9.]+)|(?P<hidden>_[A-Za-z0-9._-]{1,63}))"
    r"(?::(?:(?P<port>[0-9]{1,5})|_[A-Za-z0-9._-]+))?",
    re.ASCII,
)
Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """The trusted values of the headers; None where there is none, so that the connection's value holds."""

    client: tuple[str, int] | None = None
    """Address (or a proxy's name for the client, or UNKNOWN) and port, 0 if not given."""
    scheme: str | None = None
    """http or https."""
    host: str | None = None
    prefix: str | None = None


def read(headers: Iterable[Header], peer: str, proxies: Sequence[IPNetwork]) -> Forwarded:
    """Read the headers of a request that came from the address `peer`; malformed headers never raise.

    Each proxy appends to a list on the right. So the client is the first address from the right that is not a proxy's;
    anything further left may have been written by the client.
    """
    if not is_within(peer, proxies):
        return Forwarded()
    given: dict[bytes, list[str]] = {}
    for name, value in headers:
        if name == b"forwarded" or name.startswith(b"x-forwarded-"):
            given.setdefault(name, []).append(value.decode("latin-1"))
    hops = [hop for text in given.get(b"forwarded", []) for hop in _hops(text)]
    addresses, protos, hosts, prefixes = (
        [word.strip() for text in given.get(b"x-forwarded-" + name, []) for word in text.split(",") if word.strip()]
        for name in (b"for", b"proto", b"host", b"prefix")
    )
    # A proxy may send the scheme or the host in one kind of header and the client in the other.
    standard = _client([hop.get("for", "") for hop in hops], proxies) if hops and "for" in hops[-1] else None
    common = _client(addresses, proxies) if addresses else None
    client, back = standard or common or (None, 1)
    if standard and common and standard[0][0] != common[0][0]:
        # Proxies write one of the two and pass the other through, so the client may have written one of them.
        client, back, hops = (UNKNOWN, 0), common[1], []
    hop = hops[-min(back, len(hops))] if hops else {}
    scheme = (hop.get("proto") or _at(protos, back)).lower().replace("ws", "http")
    host = hop.get("host") or _at(hosts, back)
    prefix = _at(prefixes, 1).rstrip("/")
    return Forwarded(
        client=client,
        scheme=scheme if scheme in ("http", "https") else None,
        host=host if split_host(host)[0] else None,
        prefix=prefix if ROOT_PATH.fullmatch(prefix) else None,
    )


def below(prefix: str, root: str, path: str) -> tuple[str, str]:
    """Return ASGI's root_path and path for a server under `prefix`; the path starts with the root_path.

    `root` and `path` are those of the request, in whose path the proxy may have kept or stripped the prefix.
    """
    if not prefix or _begins(root, prefix):
        return root, path
    if not root and _begins(path, prefix):
        return prefix, path
    inner = path[len(root) :] if _begins(path, root) else path
    return prefix + root, prefix + root + inner


class BehindProxy:
    """ASGI middleware that applies the headers of trusted proxies and the root path to a request."""

    def __init__(self, app: ASGIApp, proxies: Sequence[str] = (), root_path: str = "") -> None:
        self.app, self._root_path = app, root_path
        self._proxies = parse_networks(proxies, "proxies")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] in ("http", "websocket"):
            peer = scope.get("client") or ("", 0)
            scope = self._seen(scope, read(scope["headers"], str(peer[0]), self._proxies))
        await self.app(scope, receive, send)

    def _seen(self, scope: Scope, said: Forwarded) -> Scope:
        prefix = self._root_path if said.prefix is None else said.prefix
        root, path = below(prefix, scope.get("root_path", "").rstrip("/"), scope["path"])
        seen = {**scope, "root_path": root, "path": path, "state": dict(scope.get("state") or {})}
        if said.client is not None:
            seen["client"] = said.client
        if said.scheme is not None:
            seen["scheme"] = said.scheme if scope["type"] == "http" else said.scheme.replace("http", "ws")
        direct = [value for name, value in scope["headers"] if name == b"host"]
        if said.host is not None and len(direct) == 1:
            named = (b"host", said.host.encode("latin-1"))
            seen["headers"] = [named if name == b"host" else (name, value) for name, value in scope["headers"]]
            seen["state"][DIRECT_HOST] = direct[0].decode("latin-1")
        return seen


def _begins(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def _at(values: list[str], back: int) -> str:
    """Return the value that many places from the right; a header that proxies replace has only one value."""
    return values[-min(back, len(values))] if values else ""


def _client(nodes: list[str], proxies: Sequence[IPNetwork]) -> tuple[tuple[str, int], int]:
    """Return the first node from the right that is not a proxy, else the leftmost, and its place from the right."""
    nodes = nodes[-MAX_HOPS:]
    for back, text in enumerate(reversed(nodes), start=1):
        client = _node(text)
        if back == len(nodes) or not is_within(client[0], proxies):
            return client, back
    return (UNKNOWN, 0), 1


def _node(text: str) -> tuple[str, int]:
    """Parse an address with or without a port, or an obfuscated name; anything else is UNKNOWN."""
    address = parse_address(text)  # X-Forwarded-For has IPv6 addresses without brackets
    found = None if address else _NODE.fullmatch(text)
    if found is None:
        return (str(address), 0) if address else (UNKNOWN, 0)
    port = int(found["port"] or 0)
    if found["hidden"]:
        return found["hidden"], port if port < 65536 else 0
    address = parse_address(found["in_brackets"] or found["plain"])
    return (str(address), port if port < 65536 else 0) if address else (UNKNOWN, 0)


def _hops(text: str) -> list[dict[str, str]]:
    """Read a `Forwarded` header; a malformed one becomes a single hop with an unknown client."""
    hops: list[dict[str, str]] = [{}]
    at = 0
    while True:
        found = _PAIR.match(text, at)
        if found is None:
            return [{"for": UNKNOWN}]
        name, quoted, plain, end = found.groups()
        if name is not None:
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            if hops[-1].setdefault(name.lower(), value) != value:  # a parameter may occur only once
                return [{"for": UNKNOWN}]
        if end == "":
            return [hop for hop in hops if hop]
        at = found.end()
        if end == ",":
            hops.append({})
