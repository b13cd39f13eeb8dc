"""Serving from this process: on the Ray that it is connected to, on that of RAY_ADDRESS, or on one started for it."""

import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path

import httpx
import ray
import ray.serve as ray_serve
from ray.exceptions import RayError
from ray.serve.config import HTTPOptions

from models.errors import InputError
from models.short_folder import prepare_ray_tmpdir
from serve.core.options import Options
from serve.http.app import create_app
from serve.http.server import answering
from serve.loading.build import build_engine
from serve.loading.follow import Take
from serve.on_ray.app import APP_NAME, Release, bind, remote_fleet, settled
from serve.on_ray.observing import observing
from serve.on_ray.rolling import Rolling

CONTROLLER = "SERVE_CONTROLLER_ACTOR"  # by which Ray Serve's own commands find it
REFUSAL = re.compile(rf"\b{InputError.__module__}\.{InputError.__name__}: (.+)")


def serve_runs() -> bool:
    """Whether the connected Ray has a Ray Serve already; its proxies stay as they were started, whatever one asks."""
    try:
        ray.get_actor(CONTROLLER, namespace="serve")
    except ValueError:
        return False
    return True


def answers(host: str, port: int) -> bool:
    """Whether a server that lives answers there, at once or within seconds."""
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1/health/live"
    with httpx.Client(timeout=2, trust_env=False) as http:
        for _ in range(10):
            with suppress(httpx.TransportError):
                if http.get(address).status_code == 200:
                    return True
            time.sleep(0.5)
    return False


def connect(metrics_port: int = 0) -> bool:
    """Connect to the Ray of RAY_ADDRESS, else start one; returns whether it is our own. Raises InputError.

    `metrics_port`: of our own, where Prometheus asks it; 0: one that is free.
    """
    address = os.environ.get("RAY_ADDRESS")
    # Ray lets its workers wait for every other process of the machine (nice 15): batch work may, clicks may not.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers that it runs here
    if not address:
        prepare_ray_tmpdir()
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False,
            _metrics_export_port=None if address else metrics_port or None,
        )
    except ConnectionError as error:
        raise InputError(f"no Ray answers at RAY_ADDRESS={address}: {error}; start it, or unset RAY_ADDRESS") from error
    return not address


@contextmanager
def serving(options: Options, host: str, port: int, metrics_port: int = 0, *, proxy: bool = False) -> Iterator[Take]:
    """Serve while the block runs, which begins when requests are answered; raises InputError.

    HTTP is answered by a thread of this process, or with `proxy` by Ray Serve's proxies and the ingress's replicas.
    The block is given what puts another checkpoint in a model's place, by name. All runs on the Ray of this process,
    else on that of RAY_ADDRESS, else on one started for it. Of a Ray that is not ours only our own application is
    removed at the end.
    """
    connected_before = ray.is_initialized()
    ours = not connected_before and connect(metrics_port)
    deployed = served_before = False
    try:
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        if ours and options.device == "cuda" and ray.cluster_resources().get("GPU", 0) < 1:
            raise InputError("device cuda: Ray finds no GPU on this machine; use device auto or cpu")
        if not ours and APP_NAME in ray_serve.status().applications:
            raise InputError(
                f"this Ray already serves an application {APP_NAME}, which would be replaced and then removed: "
                "end it (`serve shutdown` ends all that this Ray serves), or unset RAY_ADDRESS for a separate Ray"
            )
        served_before = not ours and serve_runs()
        location = "EveryNode" if proxy else "Disabled"
        ray_serve.start(
            proxy_location=location,
            http_options=HTTPOptions(host=host, port=port),
            logging_config={"enable_access_log": False},
        )
        deployed = True
        options, release = settled(options), Release.of(options)
        take = Rolling(options, lambda moved: deploy(moved, release, ingress=proxy), try_model).take
        if proxy and served_before and not answers(host, port):
            raise InputError(
                f"Ray Serve ran on this Ray before, and its proxies do not listen on {host} port {port}: "
                "give the --host and --port that they have, or leave out --proxy"
            )
        with nullcontext() if proxy else front(options, release, host, port):
            yield take
    finally:
        if deployed:
            ray_serve.delete(APP_NAME)  # replicas end when they have answered; a shutdown alone ends the proxy at once
        # Ray prints that calls of processes which it ends itself have failed: no failure of anything else, and no news.
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            # One that was started here has no proxies, or ours, and would keep them so for the next deployment.
            if ours or (deployed and not served_before and not ray_serve.status().applications):
                ray_serve.shutdown()
            if not connected_before:
                ray.shutdown()


@contextmanager
def front(options: Options, release: Release, host: str, port: int) -> Iterator[None]:
    """Answer HTTP in a thread of this process, with the models that are deployed."""
    app = create_app(remote_fleet(options, release), options)
    with observing(), answering(app, host, port):
        yield


def deploy(options: Options, release: Release, *, ingress: bool) -> None:
    """Serve these arguments from now on, returning when all replicas do; raises InputError."""
    try:
        ray_serve.run(bind(options, release, ingress=ingress), name=APP_NAME, route_prefix="/" if ingress else None)
    except (RuntimeError, RayError) as error:
        raise refusal(error, deployment_messages()) or error from None


def try_model(options: Options, name: str) -> None:
    """Read a model and make a click with it, in no hurry: beside it others serve. Raises InputError."""
    build_engine(replace(options.models()[name], device="cpu", num_threads=1))


def deployment_messages() -> str:
    """Read what Ray Serve noted about our deployments: tracebacks of replicas, of which its exception says nothing."""
    application = ray_serve.status().applications.get(APP_NAME)
    return "" if application is None else "\n".join(each.message for each in application.deployments.values())


def refusal(error: Exception, messages: str = "") -> InputError | None:
    """Find the InputError of a replica in what Ray made of it: a cause, or a line of the traceback in a message."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, InputError):
        return cause
    told = REFUSAL.findall(f"{error}\n{messages}")
    return InputError(told[-1].strip()) if told else None
