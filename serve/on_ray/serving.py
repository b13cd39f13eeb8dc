"""Serve from this process on Ray: the one that it is connected to, the one at RAY_ADDRESS, or one that it starts.

Each model is a separate application of Ray Serve, so that one model can be replaced without the others.
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
    """Return the name of the Ray Serve application of a model."""
    return f"{APP_NAME}-{name}"


def answers(host: str, port: int, tls: Tls | None) -> bool:
    """Return whether a Maskwright server answers at this address within seconds."""
    address = f"http{'s' if tls else ''}://{f'[{host}]' if ':' in host else host}:{port}/v1/health/live"
    with httpx.Client(timeout=2, trust_env=False, verify=False) as http:  # the answer itself shows what it is
        for _ in range(10):
            with suppress(httpx.TransportError):
                if http.get(address).status_code == 200:
                    return True
            time.sleep(0.5)
    return False


def connect(metrics_port: int = 0) -> bool:
    """Connect to the Ray at RAY_ADDRESS, else start one; return whether this call started it. Raises InputError.

    `metrics_port`: port of the metrics for Prometheus if this call starts Ray; 0: a free one.
    """
    address = joined()
    prepare_workers()
    if not address:
        prepare_ray_tmpdir()
        os.environ[ADDRESS] = LOCAL  # tells all of its processes that no other machine will join
    try:
        ray.init(
            address=address or LOCAL,
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False,
            **({} if address else start_options(metrics_port)),
        )
    except ConnectionError as error:
        raise InputError(f"no Ray answers at RAY_ADDRESS={address}: {error}; start it or unset RAY_ADDRESS") from error
    return not address


@contextmanager
def serving(
    options: Options, host: str, port: int, metrics_port: int = 0, *, proxy: bool = False, tls: Tls | None = None
) -> Iterator[Take]:
    """Serve while the block runs, which starts once requests are answered; raises InputError.

    A thread of this process answers HTTP or, with `proxy`, Ray Serve's proxies and replicas of the ingress. Yields the
    function that replaces a model's checkpoint, by name. Everything runs on the Ray that this process is connected to,
    else on the one at RAY_ADDRESS, else on a new one. At the end, a Ray that was already running loses only the
    applications of this server.
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
            raise InputError("device is cuda, but Ray finds no GPU on this machine: use device auto or cpu")
        if not ours and (taken := applications_of_ours()):
            raise InputError(
                f"this Ray already serves an application {taken[0]}, which would be replaced and then removed: "
                "end it (`serve shutdown` ends all applications on this Ray), or unset RAY_ADDRESS for a separate Ray"
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
                """Deploy these models, and return their handles when all replicas are running."""
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
                        f"Ray Serve was already running, and its proxies do not listen on {host} port {port}: "
                        "give the --host, --port and TLS options that they use, or leave out --proxy"
                    )
                yield take
    finally:
        # Deleting lets replicas finish their answers first; a shutdown would end the proxy at once.
        for name in reversed(dict.fromkeys(deployed)):
            ray_serve.delete(name)
        # When Ray ends processes, it prints that their calls have failed; this is expected, so the output is dropped.
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            # A Ray Serve that was started here would impose its proxy settings on the next deployment.
            if ours or (started and not served_before and not ray_serve.status().applications):
                ray_serve.shutdown()
            if not connected_before:
                ray.shutdown()
        os.environ.pop(ADDRESS, None)
        if named_before is not None:
            os.environ[ADDRESS] = named_before


def applications_of_ours() -> list[str]:
    """Return the names of this server's applications on the connected Ray."""
    return [name for name in ray_serve.status().applications if name == APP_NAME or name.startswith(application_of(""))]


@contextmanager
def explained(newest: Newest) -> Iterator[None]:
    """Raise the InputError of a replica, if there is one, instead of Ray Serve's error that it did not start."""
    try:
        yield
    except (RuntimeError, RayError) as error:
        raise newest() or error from None


@contextmanager
def front(options: Options, owners: Mapping[str, Any], host: str, port: int, tls: Tls | None = None) -> Iterator[None]:
    """Answer HTTP in a thread of this process, which calls the deployed models."""
    app = create_app(
        Fleet({name: RemoteModel(owner, options.request_timeout_s, direct=True) for name, owner in owners.items()}),
        options,
    )
    with observing(), answering(app, host, port, tls):
        yield


@contextmanager
def through_proxies(options: Options, owners: Mapping[str, Any], deployed: list[str], newest: Newest) -> Iterator[None]:
    """Answer HTTP with Ray Serve's proxies and replicas of the ingress."""
    deployed.append(APP_NAME)
    with explained(newest):
        ray_serve.run(Maskwright.bind(replace(options, checkpoint=()), owners), name=APP_NAME, route_prefix="/")
    yield


def try_model(options: Options, name: str) -> None:
    """Load a model and make a click, on one CPU thread to leave the others for serving; raises InputError."""
    build_engine(replace(options.models()[name], device="cpu", num_threads=1))
