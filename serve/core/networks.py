"""Parse IP addresses and networks from options, connections and headers."""

import ipaddress
from collections.abc import Iterable

from models.errors import InputError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(texts: Iterable[str], setting: str) -> list[IPNetwork]:
    """Parse networks such as 10.0.0.0/8, or single addresses; raises InputError that names the setting."""
    try:
        return [ipaddress.ip_network(text) for text in texts]
    except ValueError as error:
        raise InputError(f"{setting}: {error}; expected networks such as 172.16.0.0/12, or addresses") from None


def parse_address(text: str) -> IPAddress | None:
    """Parse an address; an IPv4 address mapped into IPv6 becomes IPv4. Returns None for any other text."""
    try:
        address = ipaddress.ip_address(text.split("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def is_within(text: str, networks: Iterable[IPNetwork]) -> bool:
    """Return whether `text` is an address in one of the networks."""
    address = parse_address(text)
    return address is not None and any(address in network for network in networks)
