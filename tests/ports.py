"""Ports for servers of tests. The standard library alone: clients' environments have nothing else of ours."""

import contextlib
import random
import socket


def free_port() -> int:
    """A free port outside the ranges from which the system and Ray take theirs at any moment."""
    for port in random.sample(range(21_000, 31_000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
