"""Environment variables of Ray and its processes. Does not import ray, which reads some of them when imported."""

import os
import secrets

HAPROXY = "RAY_SERVE_ENABLE_HA_PROXY"
"""Ray's variable that replaces Ray Serve's proxies in Python by HAProxy."""
MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}
"""Environment of processes that run a network. By default, glibc returns the memory that a forward frees to the system
and gives each of Ray's threads a separate heap, so the next forward fetches the pages again, which took up to 30 ms of
a click. These settings keep one heap; its unused part is returned at most once a minute (serve/engine/memory.py)."""
ADDRESS, LOCAL = "RAY_ADDRESS", "local"
CHOSEN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def joined() -> str:
    """Return the address of the running Ray that RAY_ADDRESS names; "" if it is unset or "local"."""
    address = os.environ.get(ADDRESS, "")
    return "" if address == LOCAL else address


def prepare_workers() -> None:
    """Set the environment of a Ray that is about to start in this process, unless the user has set it."""
    # Ray runs its workers with nice 15, behind every other process: fine for batch work, too slow for clicks.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Ray's proxies leave forwarding headers to the app, which knows which proxies to trust.
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # otherwise Ray reports its use to its developers


def prepare_ray_auth() -> None:
    """Set a new token for a Ray that is about to start in this process, unless the environment names one.

    Otherwise Ray would write a file with a token into the home folder. The jobs follow the same rule.
    """
    if not joined() and not any(os.environ.get(name) for name in CHOSEN):
        os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)
