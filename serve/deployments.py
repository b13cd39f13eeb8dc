"""Ray Serve around the HTTP app: the ingress, which keeps the sessions' values, and how everything is put together.

The deployments that run the models are in replicas.py. A kill of any process loses no session: values are in a file.
"""

import logging
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import ray
import ray.serve as ray_serve
from fastapi import FastAPI
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.config import HTTPOptions

from models.errors import InputError
from models.short_folder import prepare_ray_tmpdir
from serve.api import create_app
from serve.args import ServeArgs, build_engine, build_settings
from serve.fleet import Fleet
from serve.front import answering
from serve.model_source import SCHEME, impatient, pin, registry_uri, resolve
from serve.ray_observe import observe_replica, observing
from serve.replicas import RemoteMasks, owner_name, owner_of, versioned
from serve.rolling import Rolling
from serve.shares import share_of
from serve.sources import ONLY, Source, join_sources, read_sources

APP_NAME = "maskwright"
CONTROLLER = "SERVE_CONTROLLER_ACTOR"  # by which Ray Serve's own commands find it
MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}
"""Environment of those that run a network. glibc gives what a forward frees back to the system, and each of Ray's
threads has a separate heap: the next forward took the pages again, up to 30 ms of a click. Here one heap is kept; what
is unused of it is given back once a minute at most (serve/memory.py)."""
REFUSAL = re.compile(rf"\b{InputError.__module__}\.{InputError.__name__}: (.+)")


@ray_serve.deployment(
    num_replicas=1,
    # Sockets count too, as long as they are open; what needs the model is bounded by the app itself.
    max_ongoing_requests=1000,
    max_queued_requests=200,
    max_surge_percent=100,
    health_check_period_s=10,
    health_check_timeout_s=30,
    ray_actor_options={"num_cpus": 0.1},
)
@ray_serve.ingress()
class Maskwright:
    """The ingress: it holds the sessions' values and no model. Its routes are those of serve/api.py."""

    def __init__(self, args: ServeArgs, owners: Mapping[str, Any]) -> None:
        self.args, self.owners = args, owners

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the app around those who run the models; Ray Serve calls this in the replica."""
        observe_replica(self.args.log_format)
        fleet = Fleet({name: RemoteMasks(owner) for name, owner in self.owners.items()})
        # Ray Serve's proxy names the request in the answer.
        return create_app(fleet, replace(build_settings(self.args), answers_request_id=False))


@ray_serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0})
class Models:
    """Holds the models of one application together where a process outside of Ray Serve answers HTTP: no more."""

    def __init__(self, owners: Mapping[str, Any]) -> None:
        self.owners = owners


def build_app(args: dict[str, Any]) -> Application:
    """Build the application for `serve run` and `serve deploy`; `args` as in ServeArgs; raises InputError.

    Aliases are settled here: replicas that start later must not serve another version than those beside them.
    """
    checked = ServeArgs.of(args)
    sources = read_sources([checked.checkpoint])
    if any(each.place.startswith(SCHEME) for each in sources):
        uri = registry_uri(checked.tracking_uri)  # a replica elsewhere may have another environment
        with impatient():
            sources = tuple(Source(each.name, pin(each.place, uri)) for each in sources)
        checked = replace(checked, tracking_uri=uri, checkpoint=join_sources(sources))
    return bind(checked)


def settled(args: ServeArgs) -> ServeArgs:
    """Settle what depends on the process that binds, so that binding again gives the same deployments."""
    return replace(
        args,
        # Ray sets OMP_NUM_THREADS to the CPUs that a replica reserves, so torch would decide on one thread.
        num_threads=args.num_threads or os.cpu_count() or 1,
        sessions=args.sessions or str(Path(tempfile.mkdtemp(prefix="maskwright-")) / "sessions.db"),
    )


@dataclass(frozen=True, slots=True)
class Release:
    """What updates of one application share: `name`, and which models (by name) have a deployment for each half.

    An update replaces the replicas of those models alone that changed. Deployments stay: one that vanished would take
    calls of the ingress with it. A network without halves is then asked through Correction, and one with two may be
    whole on FirstClick.
    """

    name: str
    split: Mapping[str, bool]

    @staticmethod
    def of(args: ServeArgs) -> "Release":
        """A separate release: a Ray may hold replicas of an earlier process, whose code was another."""
        return Release(secrets.token_hex(4), {name: is_split(each) for name, each in args.models().items()})


def bind(args: ServeArgs, release: Release | None = None, *, ingress: bool = True) -> Application:
    """Bind the deployments: those of each model, and the ingress. Without a `release` all of them count as new."""
    args = settled(args)
    settings, models = build_settings(args), args.models()
    resources = ray.cluster_resources() if ray.is_initialized() else {}
    cpus, gpus = resources.get("CPU", float(os.cpu_count() or 1)), resources.get("GPU", 0.0)
    share = share_of(len(models), cpus, gpus, wants_gpu(args.device))
    split = release.split if release else {name: is_split(each) for name, each in models.items()}
    label = release.name if release else None
    owners = {
        name: owner_of("" if name == ONLY else f"_{name}", each, settings, share, MEMORY, split[name], label)
        for name, each in models.items()
    }
    if not ingress:
        return versioned(Models, label).bind(owners)
    return versioned(Maskwright, label, replace(args, checkpoint="", tracking_uri=None)).bind(args, owners)


def remote_fleet(args: ServeArgs, release: Release) -> Fleet:
    """The models that are deployed, as a process outside of Ray Serve reaches them."""
    names = {name: owner_name("" if name == ONLY else f"_{name}", release.split[name]) for name in args.models()}
    return Fleet(
        {
            name: RemoteMasks(ray_serve.get_deployment_handle(each, APP_NAME), direct=True)
            for name, each in names.items()
        }
    )


def is_split(args: ServeArgs) -> bool:
    """Whether the checkpoint's network has two halves; one that cannot be read here is refused by the replica."""
    import torch

    from models import checkpoint

    try:
        with impatient():
            description = checkpoint.describe(resolve(args.checkpoint, args.tracking_uri))
    except InputError:
        return False
    with torch.device("meta"):
        return checkpoint.network_of(description).traits.split


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


def wants_gpu(device: str) -> bool:
    """Whether the replica should ask Ray for a GPU: if it has to, or may choose and the connected Ray has one."""
    has_gpu = ray.is_initialized() and ray.cluster_resources().get("GPU", 0) >= 1
    return device == "cuda" or (device == "auto" and has_gpu)


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


Take = Callable[[str, str], None]
"""Puts another checkpoint (its folder) in the place of the model of a name; raises InputError, and changes nothing."""


@contextmanager
def serving(args: ServeArgs, host: str, port: int, metrics_port: int = 0, *, proxy: bool = False) -> Iterator[Take]:
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
        if ours and args.device == "cuda" and ray.cluster_resources().get("GPU", 0) < 1:
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
        args, release = settled(args), Release.of(args)
        take = Rolling(args, lambda moved: deploy(moved, release, ingress=proxy), try_model).take
        if proxy and served_before and not answers(host, port):
            raise InputError(
                f"Ray Serve ran on this Ray before, and its proxies do not listen on {host} port {port}: "
                "give the --host and --port that they have, or leave out --proxy"
            )
        with nullcontext() if proxy else front(args, release, host, port):
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
def front(args: ServeArgs, release: Release, host: str, port: int) -> Iterator[None]:
    """Answer HTTP in a thread of this process, with the models that are deployed."""
    app = create_app(remote_fleet(args, release), build_settings(args))
    with observing(), answering(app, host, port):
        yield


def deploy(args: ServeArgs, release: Release, *, ingress: bool) -> None:
    """Serve these arguments from now on, returning when all replicas do; raises InputError."""
    try:
        ray_serve.run(bind(args, release, ingress=ingress), name=APP_NAME, route_prefix="/" if ingress else None)
    except (RuntimeError, RayError) as error:
        raise refusal(error, deployment_messages()) or error from None


def try_model(args: ServeArgs, name: str) -> None:
    """Read a model and make a click with it, in no hurry: beside it others serve. Raises InputError."""
    build_engine(replace(args.models()[name], device="cpu", num_threads=1))


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
