"""Fetch images by URL from listed hosts at allowed addresses, with limits; without a list, nothing is fetched.

A name is looked up once, and the connection goes to the address that was checked, so that a second look-up cannot
return another one. Redirects are checked like the first URL.
"""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable

import httpx
from cachetools import TTLCache

from models.errors import InputError
from serve.core.networks import IPAddress, parse_address, parse_networks
from serve.core.options import MIB, Options
from serve.core.problems import Problem

Resolve = Callable[[str, int], list[str]]
"""Looks up a host's addresses; raises OSError."""
Origin = tuple[str, str, int]

PORTS = {"http": 80, "https": 443}
REDIRECTS = (301, 302, 303, 307, 308)
MAX_REDIRECTS = 3
NAT64 = ipaddress.ip_network("64:ff9b::/96")
CACHE_BYTES = 256 * MIB
CACHE_S = 300.0  # every click on an image requests it again


def look_up(host: str, port: int) -> list[str]:
    """Return a host's addresses from the system's resolver."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Fetcher:
    """Fetches image files. Methods raise Problem and wait for the network, so call them in a thread."""

    def __init__(
        self,
        options: Options,
        resolve: Resolve = look_up,
        transport: httpx.BaseTransport | None = None,
        token: str | None = None,
    ) -> None:
        """Check the options; raises InputError. `token`: Label Studio's. `transport`: replaces the network in tests."""
        self._options, self._resolve, self._transport, self._token = options, resolve, transport, token
        self._hosts = {place for entry in options.image_hosts for place in _places(entry)}
        self._networks = parse_networks(options.image_networks, "image_networks")
        self._token_for = _studio(options.label_studio_url) if options.label_studio_url else None
        self._guard = threading.Lock()
        self._cache: TTLCache[str, bytes] = TTLCache(CACHE_BYTES, CACHE_S, getsizeof=len)

    def get(self, url: str) -> bytes:
        """Fetch an absolute URL, or a path (beginning with /) on Label Studio.

        Raises url_fetch_disabled, url_blocked, url_failed.
        """
        if not self._hosts:
            raise Problem("url_fetch_disabled", "images are not fetched: list their hosts in the option image_hosts")
        if url.startswith("/"):
            if not self._options.label_studio_url:
                raise Problem("url_fetch_disabled", "the image is on Label Studio: set the option label_studio_url")
            url = self._options.label_studio_url.rstrip("/") + url
        with self._guard:
            data = self._cache.get(url)
        if data is None:
            data = self._follow(url)
            with self._guard:
                if len(data) <= CACHE_BYTES:
                    self._cache[url] = data
        return data

    def _follow(self, text: str) -> bytes:
        deadline = time.monotonic() + self._options.fetch_timeout_s
        url = _parse(text)
        # Ignore proxies of the environment, because a proxy would look names up itself.
        with httpx.Client(transport=self._transport, trust_env=False, timeout=self._options.fetch_timeout_s) as client:
            for _ in range(MAX_REDIRECTS + 1):
                try:
                    found = self._one(client, url, deadline)
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    raise Problem("url_failed", f"{url.host} does not answer: {type(error).__name__}") from None
                if isinstance(found, bytes):
                    return found
                url = _parse(found, url)
        raise Problem("url_failed", f"{url.host} redirects more than {MAX_REDIRECTS} times")

    def _one(self, client: httpx.Client, url: httpx.URL, deadline: float) -> bytes | str:
        """Return the file, or the address of a redirect."""
        origin = _origin(url)
        address = self._address(url, origin)
        # Label Studio answers 406 if only "image/*" is accepted.
        headers = {"Host": url.netloc.decode("ascii"), "Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"}
        if origin == self._token_for and self._token:
            headers["Authorization"] = f"Token {self._token}"
        pinned = url.copy_with(host=str(address))
        # The certificate must still match the name.
        with client.stream("GET", pinned, headers=headers, extensions={"sni_hostname": url.host}) as response:
            if response.status_code in REDIRECTS and "location" in response.headers:
                return response.headers["location"]
            if response.status_code != 200:
                raise Problem("url_failed", f"{url.host} answered with status {response.status_code}")
            return self._read(response, url, deadline)

    def _read(self, response: httpx.Response, url: httpx.URL, deadline: float) -> bytes:
        data = bytearray()
        for chunk in response.iter_raw():
            data += chunk
            if len(data) > self._options.max_body_bytes:
                raise Problem("url_failed", f"the file exceeds {self._options.max_body_bytes} bytes")
            if time.monotonic() > deadline:
                raise Problem("url_failed", f"{url.host} took more than {self._options.fetch_timeout_s:g} s")
        return bytes(data)

    def _address(self, url: httpx.URL, origin: Origin) -> IPAddress:
        _, host, port = origin
        if url.userinfo:
            raise Problem("url_blocked", "the URL contains a user name")
        if (host, port) not in self._hosts:
            raise Problem("url_blocked", f"{host[:80]}:{port} is not in the option image_hosts")
        try:
            texts = self._resolve(host, port)
        except OSError:
            raise Problem("url_failed", f"there is no host {host[:80]}") from None
        for address in map(parse_address, texts):
            if address is not None and self._may_reach(address):
                return address
        raise Problem(
            "url_blocked", f"{host[:80]} has no public address, nor one in a network of the option image_networks"
        )

    def _may_reach(self, address: IPAddress) -> bool:
        return is_public(address) or any(address in network for network in self._networks)


def is_public(address: IPAddress) -> bool:
    """Return whether an address is public, and does not embed another address."""
    if isinstance(address, ipaddress.IPv6Address) and (address in NAT64 or address.sixtofour or address.teredo):
        return False
    return address.is_global and not address.is_multicast


def _studio(url: str) -> Origin:
    try:
        return _origin(_parse(url))
    except Problem as problem:
        raise InputError(f"label_studio_url is {url!r}: {problem.detail}") from None


def _places(entry: str) -> list[tuple[str, int]]:
    """Return the hosts and ports that an entry of image_hosts allows; without a port, those of http and https."""
    try:
        url = httpx.URL(f"//{entry}")
    except httpx.InvalidURL:
        url = httpx.URL("")
    if not url.host or url.netloc.decode("ascii", "replace") != entry.lower():
        raise InputError(f"image_hosts: {entry!r} is neither HOST nor HOST:PORT")
    return [(url.host, url.port)] if url.port else [(url.host, port) for port in PORTS.values()]


def _parse(text: str, base: httpx.URL | None = None) -> httpx.URL:
    try:
        return httpx.URL(text) if base is None else base.join(text)
    except (httpx.InvalidURL, ValueError):
        raise Problem("url_blocked", "the image's address is not a URL") from None


def _origin(url: httpx.URL) -> Origin:
    if url.scheme not in PORTS or not url.host:
        raise Problem(
            "url_blocked", f"the scheme of the URL is {url.scheme[:20]!r}: expected http:// or https:// and a host"
        )
    return url.scheme, url.host, url.port or PORTS[url.scheme]
