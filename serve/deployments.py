"""Ray Serve around the HTTP app: the ingress, which keeps the sessions' values, and how everything is put together.

The deployments that run the models are in replicas.py. A kill of any process loses no session: values are in a file.
"""

import logging
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
import ray.serve as ray_serve
from fastapi import FastAPI
from ray.exceptions import RayError
from ray.serve import Application
from ray.serve.config import HTTPOptions

from models.errors import InputError
from models.precision import Precision
from serve.access import read_tokens
from serve.api import create_app
from serve.engine import Engine, ModelNan
from serve.fleet import Fleet
from serve.forwards import measure
from serve.front import answering
from serve.logs import check_format
from serve.model_source import SCHEME, impatient, pin, registry_uri, resolve
from serve.ray_observe import observe_replica, observing
from serve.replicas import RemoteMasks, owner_name, owner_of, versioned
from serve.rolling import Rolling
from serve.settings import Settings
from serve.shares import share_of
from serve.sources import ONLY, Source, join_sources, read_sources

APP_NAME = "maskwright"
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("fp32", "bf16")
LISTS = ("cvat_clients", "image_hosts", "image_networks", "negative_labels")  # arguments of several values
MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}
"""Environment of those that run a network. glibc gives what a forward frees back to the system, and each of Ray's
threads has a heap of its own: the next forward took the pages anew, up to 30 ms of a click. Here one heap is kept."""
REFUSAL = re.compile(rf"\b{InputError.__module__}\.{InputError.__name__}: (.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeArgs:
    """What a deployment is told; every field may come as text, as `serve run module:builder key=value` sends it.

    `checkpoint` a folder or models:/name@alias, whose registry is at `tracking_uri` (None: at MLFLOW_TRACKING_URI), or
    several as "a=FOLDER,b=models:/name@alias", of which the first is the default one;
    `refinement` a name (None: what the checkpoint recommends); `num_threads` of the network on a CPU (0: one per CPU);
    `device` auto (a GPU where there is one), cpu or cuda; `precision` fp32 or bf16; `max_megapixels` of an image;
    `sessions` the file that sessions are kept in, or the URL of a Redis, whose password is best in the ingress's
    environment, MASKWRIGHT_REDIS_PASSWORD (None: a file that ends with the application's processes); `idle_minutes`
    after which a session that nobody uses ends; `tokens` the file of tokens (None: nobody is asked), there on every
    machine that has an ingress; `hosts` and `origins` names and origins with commas between; `clicks_per_second` and
    `opens_per_minute` of one client (0: no limit); `log_format` off, text or json: a line per request (serve/logs.py).
    The others are for Label Studio and CVAT, as in Settings; several values are separated by commas. Label Studio's
    token is in the environment, LABEL_STUDIO_API_KEY.
    """

    checkpoint: str
    refinement: str | None = None
    examples: str | None = None
    tracking_uri: str | None = None
    num_threads: int = 0
    device: str = "auto"
    precision: Precision = "fp32"
    max_megapixels: int = 32
    sessions: str | None = field(default=None, repr=False)
    idle_minutes: int = 60
    tokens: str | None = None
    hosts: str = ""
    origins: str = ""
    clicks_per_second: int = 50
    opens_per_minute: int = 120
    cvat_clients: str | None = None
    image_hosts: str | None = None
    image_networks: str | None = None
    label_studio_url: str | None = None
    negative_labels: str | None = None
    log_format: str = "off"

    @classmethod
    def of(cls, args: dict[str, Any]) -> "ServeArgs":
        """Check the arguments of a builder; raises InputError for a missing or unknown one."""
        known = set(cls.__slots__)
        unknown = sorted(set(args) - known)
        if unknown:
            raise InputError(f"unknown argument {unknown[0]!r}; known: {', '.join(sorted(known))}")
        if not args.get("checkpoint"):
            raise InputError("no checkpoint: expected checkpoint=FOLDER or checkpoint=models:/name@alias")
        read_sources([args["checkpoint"]])
        numbers = {
            "num_threads": args.get("num_threads") or 0,
            "max_megapixels": args.get("max_megapixels") or 32,
            "idle_minutes": args.get("idle_minutes") or 60,
            "clicks_per_second": args.get("clicks_per_second", 50),
            "opens_per_minute": args.get("opens_per_minute", 120),
        }
        for name, value in numbers.items():
            if not str(value).isdigit():
                raise InputError(f"{name} is {value!r}: expected a positive number, or 0 for the default")
        if args.get("device", "auto") not in DEVICES:
            raise InputError(f"device is {args['device']!r}: expected {', '.join(DEVICES)}")
        if args.get("precision", "fp32") not in PRECISIONS:
            raise InputError(f"precision is {args['precision']!r}: expected {', '.join(PRECISIONS)}")
        check_format(args.get("log_format", "off"))
        return cls(**{**args, **{name: int(value) for name, value in numbers.items()}})

    def models(self) -> dict[str, "ServeArgs"]:
        """The same for each model alone, by name; the first is the default one."""
        return {each.name: replace(self, checkpoint=each.place) for each in read_sources([self.checkpoint])}

    def moved(self, name: str, place: str) -> "ServeArgs":
        """The same with another checkpoint for the model of this name."""
        sources = read_sources([self.checkpoint])
        moved = (Source(each.name, place if each.name == name else each.place) for each in sources)
        return replace(self, checkpoint=join_sources(moved))


def build_predictor(args: ServeArgs) -> Any:
    """Load the model in this process; raises InputError."""
    import torch

    from models.predictor import Predictor

    if args.num_threads:
        torch.set_num_threads(args.num_threads)
    has_cuda = torch.cuda.is_available()
    if args.device == "cuda" and not has_cuda:
        raise InputError("device cuda: torch finds no GPU here; use device auto or cpu")
    device = "cuda" if has_cuda and args.device != "cpu" else "cpu"
    folder = resolve(args.checkpoint, args.tracking_uri)
    predictor = Predictor(folder, refinement=args.refinement, device=device, precision=args.precision)
    measure(predictor)
    return predictor


def build_engine(args: ServeArgs, predictor: Any = None, *, alone: bool = True) -> Engine:
    """Take a predictor, or load one, and make its first click; raises InputError."""
    from models.refinement import REFINEMENTS

    predictor = build_predictor(args) if predictor is None else predictor
    names = [name for name, refinement in REFINEMENTS.items() if refinement == predictor.refinement]
    engine = Engine(predictor, names[0] if names else args.refinement or "as the checkpoint says", alone=alone)
    try:
        engine.warm_up()
    except ModelNan as error:
        raise InputError(f"the network of {args.checkpoint} gives values that are not numbers: {error}") from error
    return engine


def build_settings(args: ServeArgs) -> Settings:
    """The settings that follow from the arguments."""
    examples = Path(args.examples) if args.examples else None
    settings = Settings(
        examples=examples,
        max_pixels=args.max_megapixels * 1_000_000,
        sessions=args.sessions or None,
        idle_timeout_s=60.0 * args.idle_minutes,
        tokens=read_tokens(Path(args.tokens)) if args.tokens else (),
        hosts=_words(args.hosts),
        origins=_words(args.origins),
        clicks_per_second=args.clicks_per_second,
        opens_per_minute=args.opens_per_minute,
        label_studio_url=args.label_studio_url,
        label_studio_token=os.environ.get("LABEL_STUDIO_API_KEY"),
    )
    given = {name: getattr(args, name) for name in LISTS if getattr(args, name) is not None}
    return replace(settings, **{name: _words(given[name]) for name in given})


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


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
        """A release of its own: a Ray may hold replicas of an earlier process, whose code was another."""
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
    return Fleet({name: RemoteMasks(ray_serve.get_deployment_handle(each, APP_NAME)) for name, each in names.items()})


def is_split(args: ServeArgs) -> bool:
    """Whether the checkpoint's network has two halves; one that cannot be read here is refused by the replica."""
    import torch

    from models import checkpoint
    from models.networks import create

    try:
        with impatient():
            description = checkpoint.describe(resolve(args.checkpoint, args.tracking_uri))
    except InputError:
        return False
    with torch.device("meta"):
        return create(description["network"], **description["config"]).traits.split


def wants_gpu(device: str) -> bool:
    """Whether the replica should ask Ray for a GPU: told to, or free to choose where the connected Ray has one."""
    has_gpu = ray.is_initialized() and ray.cluster_resources().get("GPU", 0) >= 1
    return device == "cuda" or (device == "auto" and has_gpu)


def connect(metrics_port: int = 0) -> bool:
    """Connect to the Ray of RAY_ADDRESS, else start one; returns whether it is our own. Raises InputError.

    `metrics_port`: of our own, where Prometheus asks it; 0: one that is free.
    """
    address = os.environ.get("RAY_ADDRESS")
    # Ray lets its workers wait for every other process of the machine (nice 15): batch work may, clicks may not.
    os.environ.setdefault("RAY_worker_niceness", "0")
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
    deployed = False
    try:
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        if ours and args.device == "cuda" and ray.cluster_resources().get("GPU", 0) < 1:
            raise InputError("device cuda: Ray finds no GPU on this machine; use device auto or cpu")
        location = "EveryNode" if proxy else "Disabled"
        ray_serve.start(
            proxy_location=location,
            http_options=HTTPOptions(host=host, port=port),
            logging_config={"enable_access_log": False},
        )
        deployed = True
        args, release = settled(args), Release.of(args)
        take = Rolling(args, lambda moved: deploy(moved, release, ingress=proxy), try_model).take
        with nullcontext() if proxy else front(args, release, host, port):
            yield take
    finally:
        if deployed:
            ray_serve.delete(APP_NAME)  # replicas end when they have answered; a shutdown alone ends the proxy at once
        if ours:
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
