"""Ports for servers in tests. It needs only the standard library, because clients' environments have little else."""

import contextlib
import random
import socket


def free_port() -> int:
    """Return a free port outside the ranges from which the system and Ray assign ports."""
    for port in random.sample(range(21_000, 31_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
