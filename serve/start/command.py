"""The command line of `python -m serve`: what is said, and what is wrong with it before anything starts."""

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
    """Serve a model: the page for clicking at /, the HTTP interface under /v1, its description at /openapi.json."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Ge(1), Le(65535)] = 8000
    """Port to listen on."""
    certificate: Place | None = None
    """Certificate in PEM, followed by those in between; with it and --key the server speaks TLS (https)."""
    key: Place | None = field(default=None, repr=False)
    """Private key of --certificate in PEM, without a password."""
    follow: Annotated[FiniteFloat, Ge(0)] = 0.0
    """Seconds between looks at where each models:/name@alias leads: once it leads elsewhere, the model is replaced
    while the server serves. 0: never."""
    plain: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run everything in this process, without Ray."""
    proxy: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Let Ray Serve's proxies and replicas answer HTTP, as on a cluster, and not this process: some ms slower."""
    metrics_port: Annotated[int, Ge(0), Le(65535)] = 0
    """Port on which the Ray that is started gives its metrics to Prometheus; 0: one that is free. With --plain they are
    at /metrics."""
    insecure: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Allow an address that other machines can reach, although the server asks for no token."""

    @staticmethod
    def flag(name: str) -> str:
        """How an option is called on the command line."""
        return "--refine" if name == "refinement" else f"--{name.replace('_', '-')}"

    def options(self) -> Options:
        """What is not about this process alone."""
        return Options(**{each.name: getattr(self, each.name) for each in fields(Options)})

    @property
    def tls(self) -> Tls | None:
        """Certificate and key, where both are given; raises InputError where one is."""
        return Tls.of(self.certificate, self.key)

    @property
    def url(self) -> str:
        """Where the server is found."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check(options: Serve) -> None:
    """Raise InputError for options that cannot be served."""
    if not is_loopback(options.host) and options.tokens is None and not options.insecure:
        raise InputError(
            f"--host {options.host} lets other machines in, and without --tokens this server has no login: "
            "use 127.0.0.1, give --tokens FILE, or add --insecure on a network you trust"
        )
    if options.plain and options.proxy:
        raise InputError("--proxy is about Ray Serve, and --plain runs without it: leave one of the two out")
    # With HAProxy, Ray Serve listens on every interface, whatever host it is given.
    if options.proxy and os.environ.get(HAPROXY) == "1" and not (options.tokens or options.insecure):
        raise InputError(
            f"{HAPROXY}=1 lets other machines in with --proxy, whatever --host says, and without --tokens this server "
            "has no login: unset it, give --tokens FILE, or add --insecure on a network you trust"
        )
    if options.tls is not None:
        if options.proxy and os.environ.get(HAPROXY) == "1":
            raise InputError(f"{HAPROXY}=1 speaks no TLS: unset it, or leave out --certificate and --key")
        if (complaint := options.tls.check()) is not None:
            logger.warning(complaint)
    if options.tokens is not None:
        read_tokens(Path(options.tokens))
    if options.follow and not any(is_alias(each.place) for each in options.checkpoint):
        raise InputError("--follow looks at where aliases lead, and no --checkpoint is a models:/name@alias")
    if options.examples is not None and not Path(options.examples).is_dir():
        raise InputError(f"--examples {options.examples} is no folder: give a folder of JPEG, PNG or WebP images")
    # The proxies of a cluster listen on its machines, and may be there already; a Redis may be for those alone.
    if options.plain or not joined():
        check_port(options.host, options.port)
        if options.sessions and is_url(options.sessions):
            open_store(options.sessions)


def check_port(host: str, port: int) -> None:
    """Raise InputError unless a server can listen there now."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of a server that has just ended
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host} port {port} ({error.strerror}): stop what runs there, or choose another --port"
        ) from None


def default_sessions(port: int) -> str:
    """Where a server on this port keeps its sessions: in a folder of this user's that others cannot read."""
    return f"{tempfile.gettempdir()}/maskwright-{os.getuid()}/sessions-{port}.db"
