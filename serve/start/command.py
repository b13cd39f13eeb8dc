"""The command line of `python -m serve`: its options, and the checks that run before anything starts."""

import ipaddress
import logging
import os
import socket
import tempfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated

import tyro
from annotated_types import Ge, Le
from pydantic import FiniteFloat

from models.errors import InputError
from serve.core.options import Options, Place
from serve.core.tokens import read_tokens
from serve.http.tls import Tls
from serve.loading.model_source import is_alias
from serve.on_ray.environment import HAPROXY, joined
from serve.sessions.open_store import is_url, open_store

logger = logging.getLogger("maskwright.serve")


@dataclass(frozen=True, kw_only=True)
class Serve(Options):
    """Serve models: the page at /, the HTTP interface under /v1, and its description at /openapi.json."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Ge(1), Le(65535)] = 8000
    """Port to listen on."""
    certificate: Place | None = None
    """Certificate in PEM, followed by any intermediate ones; with --key, the server speaks TLS (https)."""
    key: Place | None = field(default=None, repr=False)
    """Private key of --certificate in PEM, without a password."""
    follow: Annotated[FiniteFloat, Ge(0)] = 0.0
    """Seconds between checks whether a models:/name@alias has moved, which updates its model; 0: never."""
    plain: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run everything in this process, without Ray."""
    proxy: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Answer HTTP in Ray Serve's proxies and replicas, as on a cluster, instead of in this process; a few ms slower."""
    metrics_port: Annotated[int, Ge(0), Le(65535)] = 0
    """Port of the metrics for Prometheus if this server starts Ray; 0: any free one. With --plain: /metrics."""
    insecure: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Listen on an address that other machines can reach although the server requires no token."""

    @staticmethod
    def flag(name: str) -> str:
        """Return the flag of an option."""
        return "--refine" if name == "refinement" else f"--{name.replace('_', '-')}"

    def options(self) -> Options:
        """Return the options of the application, without those of this process."""
        return Options(**{each.name: getattr(self, each.name) for each in fields(Options)})

    @property
    def tls(self) -> Tls | None:
        """The certificate and its key, or None; raises InputError if only one of them is given."""
        return Tls.of(self.certificate, self.key)

    @property
    def url(self) -> str:
        """Address of the server."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check(options: Serve) -> None:
    """Raise InputError for options with which the server cannot start."""
    if not is_loopback(options.host) and options.tokens is None and not options.insecure:
        raise InputError(
            f"--host {options.host} lets other machines connect, and without --tokens the server requires no login: "
            "use 127.0.0.1, give --tokens FILE, or add --insecure on a network that you trust"
        )
    if options.plain and options.proxy:
        raise InputError("--proxy needs Ray Serve, and --plain runs without it: leave out one of the two")
    # With HAProxy, Ray Serve listens on every interface, whatever host is configured.
    if options.proxy and os.environ.get(HAPROXY) == "1" and not (options.tokens or options.insecure):
        raise InputError(
            f"with {HAPROXY}=1 and --proxy, other machines can connect whatever --host says, and without --tokens the "
            "server requires no login: unset it, give --tokens FILE, or add --insecure on a network that you trust"
        )
    if options.tls is not None:
        if options.proxy and os.environ.get(HAPROXY) == "1":
            raise InputError(f"{HAPROXY}=1 does not support TLS: unset it, or leave out --certificate and --key")
        if (complaint := options.tls.check()) is not None:
            logger.warning(complaint)
    if options.tokens is not None:
        read_tokens(Path(options.tokens))
    if options.follow and not any(is_alias(each.place) for each in options.checkpoint):
        raise InputError("--follow needs a --checkpoint models:/name@alias, and none was given")
    if options.examples is not None and not Path(options.examples).is_dir():
        raise InputError(f"--examples {options.examples} is not a folder: give a folder of JPEG, PNG or WebP images")
    # A cluster's proxies listen on its machines, possibly already, and only those may be able to reach the Redis.
    if options.plain or not joined():
        check_port(options.host, options.port)
        if options.sessions and is_url(options.sessions):
            open_store(options.sessions)


def check_port(host: str, port: int) -> None:
    """Raise InputError unless a server can listen on this address now."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server may have just ended there
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host} port {port} ({error.strerror}): stop the program there or choose another --port"
        ) from None


def default_sessions(port: int) -> str:
    """Return the default file of sessions for a port, in a folder that only this user can read."""
    return f"{tempfile.gettempdir()}/maskwright-{os.getuid()}/sessions-{port}.db"
