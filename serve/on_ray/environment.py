"""What Ray and its processes are given by their environment. No Ray here: it reads some of this as it is imported."""

import os
import secrets

HAPROXY = "RAY_SERVE_ENABLE_HA_PROXY"
"""Ray's own variable: HAProxy in place of the proxies that are written in Python."""
MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}
"""Environment of those that run a network. glibc gives what a forward frees back to the system, and each of Ray's
threads has a separate heap: the next forward took the pages again, up to 30 ms of a click. Here one heap is kept; what
is unused of it is given back once a minute at most (serve/engine/memory.py)."""
ADDRESS, LOCAL = "RAY_ADDRESS", "local"
CHOSEN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def joined() -> str:
    """Address of the Ray that RAY_ADDRESS names; "" where it names none, or a separate one (local)."""
    address = os.environ.get(ADDRESS, "")
    return "" if address == LOCAL else address


def prepare_workers() -> None:
    """Say how the workers of a Ray that is about to start here shall be."""
    # Ray lets its workers wait for every other process of the machine (nice 15): batch work may, clicks may not.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Ray's proxies leave what other proxies say to the app, which knows which of them to believe.
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers that it runs here


def prepare_ray_auth() -> None:
    """Give a Ray that is about to start here a new token, unless the environment already decides.

    Otherwise Ray would write a token file into the home folder. The jobs follow the same rule.
    """
    if not joined() and not any(os.environ.get(name) for name in CHOSEN):
        os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)
