"""Uses of Ray without a public interface, each with its reason; tests/serve/test_compat.py tests what they rely on."""

from typing import Any

import ray
import ray.serve as ray_serve
from ray.serve.config import RequestRouterConfig

TRIED = ("2.60",)
"""Versions on which the contract tests pass; 2.59 lacks `max_surge_percent` and apps that are built in replicas."""
ROUTER = "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
"""Sends a session to the replica that has it cached. Public routers choose by load, model or prefix; without this one,
sessions still work, but their images are sent and encoded again at nearly every click."""
CONTROLLER = "SERVE_CONTROLLER_ACTOR"
"""Actor by which Ray Serve's commands find a running Ray Serve; `serve.status` does not show one without proxies."""


def affinity() -> dict[str, Any]:
    """Return options of a deployment that sends all calls of a session id to the same replica."""
    try:
        router: Any = {"request_router_class": ROUTER}  # Ray's type says dict, its documentation a path
        return {"request_router_config": RequestRouterConfig(**router)}
    except (ImportError, AttributeError):
        return {}


def by_value(handle: Any) -> Any:
    """Return a handle whose calls go over gRPC instead of Ray's object store, which is 1 to 2 ms faster.

    Only for small values, because messages of more than 4 MB are refused. Ray Serve's documented switch,
    RAY_SERVE_USE_GRPC_BY_DEFAULT, affects every call of a process, with images and features too, and the handles that
    the process passes to others.
    """
    try:
        return handle.options(_by_reference=False)
    except TypeError:
        return handle


def serve_runs() -> bool:
    """Return whether the connected Ray already runs Ray Serve, whose proxies then keep their settings."""
    try:
        ray.get_actor(CONTROLLER, namespace="serve")
    except ValueError:
        return bool(ray_serve.status().proxies)
    return True


def untried() -> str | None:
    """Return a warning if this version of Ray was not tested with the server, else None."""
    if any(ray.__version__.startswith(f"{version}.") for version in TRIED):
        return None
    return f"Ray {ray.__version__} was not tested with this server; tested: {', '.join(TRIED)}"


def start_options(metrics_port: int) -> dict[str, Any]:
    """Return options of `ray.init` that set the metrics port (0: a free one); only `ray start` has a public one."""
    return {"_metrics_export_port": metrics_port} if metrics_port else {}
