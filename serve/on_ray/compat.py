"""What the server uses of Ray without a public interface, and why; tests/serve/test_compat.py holds the contracts."""

from typing import Any

import ray
import ray.serve as ray_serve
from ray.serve.config import RequestRouterConfig

TRIED = ("2.60",)
"""Versions on which the contract tests pass; 2.59 lacks `max_surge_percent` and apps that are built in replicas."""
ROUTER = "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
"""A session comes back to the replica that remembers it. Public routers choose by load, model or prefix: without this
one sessions are found again all the same, but their images are sent and encoded at nearly every click."""
CONTROLLER = "SERVE_CONTROLLER_ACTOR"
"""By which Ray Serve's own commands find it: `serve.status` says nothing of a Ray Serve without proxies."""


def affinity() -> dict[str, Any]:
    """Options of a deployment whose calls come back to the replica that their session id had before."""
    try:
        router: Any = {"request_router_class": ROUTER}  # typed there as a dict, documented as a path
        return {"request_router_config": RequestRouterConfig(**router)}
    except (ImportError, AttributeError):
        return {}


def by_value(handle: Any) -> Any:
    """A handle whose calls go from process to process (gRPC) and not by Ray's objects, 1 to 2 ms sooner.

    For what is small: a message of more than 4 MB is refused. Ray Serve's documented switch for it,
    RAY_SERVE_USE_GRPC_BY_DEFAULT, counts for every call of a process, images and features too, and for the handles that
    the process gives to others.
    """
    try:
        return handle.options(_by_reference=False)
    except TypeError:
        return handle


def serve_runs() -> bool:
    """Whether the connected Ray has a Ray Serve already; its proxies stay as they were started, whatever one asks."""
    try:
        ray.get_actor(CONTROLLER, namespace="serve")
    except ValueError:
        return bool(ray_serve.status().proxies)
    return True


def untried() -> str | None:
    """A warning where this Ray is newer or older than those that were tried; None where it is not."""
    if any(ray.__version__.startswith(f"{version}.") for version in TRIED):
        return None
    return f"Ray {ray.__version__} was not tried with this server; tried: {', '.join(TRIED)}"


def start_options(metrics_port: int) -> dict[str, Any]:
    """Options of `ray.init` for the port of metrics (0: a free one), which is public in `ray start` alone."""
    return {"_metrics_export_port": metrics_port} if metrics_port else {}
