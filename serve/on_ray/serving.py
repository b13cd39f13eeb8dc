"""Serving from this process: on the Ray that it is connected to, on that of RAY_ADDRESS, or on one started for it.

Each model is an application of Ray Serve: the unit of upgrade, so that a model is replaced without the others.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import ray
import ray.serve as ray_serve
from ray.exceptions import RayError
from ray.serve import RunTarget
from ray.serve.config import HTTPOptions

from models.errors import InputError
from models.short_folder import prepare_ray_tmpdir
from serve.core.options import Options
from serve.engine.fleet import Fleet
from serve.http.app import create_app
from serve.http.server import answering
from serve.http.tls import Tls
from serve.loading.build import build_engine
from serve.loading.follow import Rolling, Take
from serve.on_ray.app import APP_NAME, Maskwright, halves_of, owners_of, with_sessions
from serve.on_ray.compat import serve_runs, start_options, untried
from serve.on_ray.environment import ADDRESS, LOCAL, joined, prepare_workers
from serve.on_ray.observing import observing
from serve.on_ray.refusals import Newest, collecting
from serve.on_ray.replicas import RemoteModel

logger = logging.getLogger("maskwright.serve")


def application_of(name: str) -> str:
    """Name of the application of a model: each is one, which is upgraded without the others."""
    return f"{APP_NAME}-{name}"


def answers(host: str, port: int, tls: Tls | None) -> bool:
    """Whether a server that lives answers there, at once or within seconds."""
    address = f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{port}/v1/health/live"
    with httpx.Client(timeout=2, trust_env=False, verify=False) as http:  # whether it is ours, its answer tells
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
    address = joined()
    prepare_workers()
    if not address:
        prepare_ray_tmpdir()
        os.environ[ADDRESS] = LOCAL  # by which all of its processes know that no other machine will come
    try:
        ray.init(
            address=address or LOCAL,
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False,
            **({} if address else start_options(metrics_port)),
        )
    except ConnectionError as error:
        raise InputError(f"no Ray answers at RAY_ADDRESS={address}: {error}; start it, or unset RAY_ADDRESS") from error
    return not address


@contextmanager
def serving(
    options: Options, host: str, port: int, metrics_port: int = 0, *, proxy: bool = False, tls: Tls | None = None
) -> Iterator[Take]:
    """Serve while the block runs, which begins when requests are answered; raises InputError.

    HTTP is answered by a thread of this process, or with `proxy` by Ray Serve's proxies and the ingress's replicas.
    The block is given what puts another checkpoint in a model's place, by name. All runs on the Ray of this process,
    else on that of RAY_ADDRESS, else on one started for it. Of a Ray that is not ours only our own application is
    removed at the end.
    """
    connected_before, named_before = ray.is_initialized(), os.environ.get(ADDRESS)
    ours = not connected_before and connect(metrics_port)
    deployed: list[str] = []
    started = served_before = False
    try:
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        if (warning := untried()) is not None:
            logger.warning(warning)
        if ours and options.device == "cuda" and ray.cluster_resources().get("GPU", 0) < 1:
            raise InputError("device cuda: Ray finds no GPU on this machine; use device auto or cpu")
        if not ours and (taken := applications_of_ours()):
            raise InputError(
                f"this Ray already serves an application {taken[0]}, which would be replaced and then removed: "
                "end it (`serve shutdown` ends all that this Ray serves), or unset RAY_ADDRESS for a separate Ray"
            )
        served_before = not ours and serve_runs()
        ray_serve.start(
            proxy_location="EveryNode" if proxy else "Disabled",
            http_options=HTTPOptions(
                host=host,
                port=port,
                ssl_keyfile=tls and tls.key,
                ssl_certfile=tls and tls.certificate,
            ),
            logging_config={"enable_access_log": False},
        )
        started = True
        options = with_sessions(options)
        split = halves_of(options)
        with collecting() as newest:

            def deploy(options: Options, *names: str) -> dict[str, Any]:
                """Serve these models from now on, returning handles when all of their replicas do."""
                bound = owners_of(options, split)
                deployed.extend(application_of(name) for name in names)
                targets = [RunTarget(bound[name], name=application_of(name), route_prefix=None) for name in names]
                with explained(newest):
                    return dict(zip(names, ray_serve.run_many(targets), strict=True))

            owners = deploy(options, *split)
            take = Rolling(options, deploy, try_model).take
            answering_http = (
                through_proxies(options, owners, deployed, newest) if proxy else front(options, owners, host, port, tls)
            )
            with answering_http:
                if proxy and served_before and not answers(host, port, tls):
                    raise InputError(
                        f"Ray Serve ran on this Ray before, and its proxies do not listen on {host} port {port}: "
                        "give the --host, --port and TLS that they have, or leave out --proxy"
                    )
                yield take
    finally:
        # Replicas end when they have answered; a shutdown alone ends the proxy at once.
        for name in reversed(dict.fromkeys(deployed)):
            ray_serve.delete(name)
        # Ray prints that calls of processes which it ends itself have failed: no failure of anything else, and no news.
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            # One that was started here has no proxies, or ours, and would keep them so for the next deployment.
            if ours or (started and not served_before and not ray_serve.status().applications):
                ray_serve.shutdown()
            if not connected_before:
                ray.shutdown()
        os.environ.pop(ADDRESS, None)
        if named_before is not None:
            os.environ[ADDRESS] = named_before


def applications_of_ours() -> list[str]:
    """Names of applications that a server of this kind has on the connected Ray."""
    return [name for name in ray_serve.status().applications if name == APP_NAME or name.startswith(application_of(""))]


@contextmanager
def explained(newest: Newest) -> Iterator[None]:
    """Raise what a replica refused in place of Ray Serve's saying that it did not start."""
    try:
        yield
    except (RuntimeError, RayError) as error:
        raise newest() or error from None


@contextmanager
def front(options: Options, owners: Mapping[str, Any], host: str, port: int, tls: Tls | None = None) -> Iterator[None]:
    """Answer HTTP in a thread of this process, with the models that are deployed."""
    app = create_app(
        Fleet({name: RemoteModel(owner, options.request_timeout_s, direct=True) for name, owner in owners.items()}),
        options,
    )
    with observing(), answering(app, host, port, tls):
        yield


@contextmanager
def through_proxies(options: Options, owners: Mapping[str, Any], deployed: list[str], newest: Newest) -> Iterator[None]:
    """Answer HTTP by Ray Serve's proxies and the ingress's replicas."""
    deployed.append(APP_NAME)
    with explained(newest):
        ray_serve.run(Maskwright.bind(replace(options, checkpoint=()), owners), name=APP_NAME, route_prefix="/")
    yield


def try_model(options: Options, name: str) -> None:
    """Read a model and make a click with it, in no hurry: beside it others serve. Raises InputError."""
    build_engine(replace(options.models()[name], device="cpu", num_threads=1))
