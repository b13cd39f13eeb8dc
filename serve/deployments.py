"""Ray Serve around the HTTP app: the ingress, which keeps the sessions' values, and how everything is put together.

The deployments that run the model are in replicas.py. A kill of any process loses no session: values are in a file.
"""

import logging
import os
import re
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from serve.model_source import SCHEME, registry_uri, resolve
from serve.replicas import Correction, FirstClick, RemoteMasks
from serve.settings import Settings

APP_NAME = "maskwright"
DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("fp32", "bf16")
LISTS = ("cvat_clients", "image_hosts", "image_networks", "negative_labels")  # arguments of several values
MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
}
"""Environment of those that run a network. glibc gives what a forward frees back to the system, and each of Ray's threads
has a heap of its own: the next forward took the pages anew, up to 30 ms of a click. Here one heap is kept."""
REFUSAL = re.compile(rf"\b{InputError.__module__}\.{InputError.__name__}: (.+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeArgs:
    """What a deployment is told; every field may come as text, as `serve run module:builder key=value` sends it.

    `checkpoint` a folder or models:/name@alias, whose registry is at `tracking_uri` (None: at MLFLOW_TRACKING_URI);
    `refinement` a name (None: what the checkpoint recommends); `num_threads` of the network on a CPU (0: one per CPU);
    `device` auto (a GPU where there is one), cpu or cuda; `precision` fp32 or bf16; `max_megapixels` of an image;
    `sessions` the file that sessions are kept in, or the URL of a Redis, whose password is best in the ingress's
    environment, MASKWRIGHT_REDIS_PASSWORD (None: a file that ends with the application's processes); `idle_minutes`
    after which a session that nobody uses ends; `tokens` the file of tokens (None: nobody is asked), there on every
    machine that has an ingress; `hosts` and `origins` names and origins with commas between; `clicks_per_second` and
    `opens_per_minute` of one client (0: no limit).
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

    @classmethod
    def of(cls, args: dict[str, Any]) -> "ServeArgs":
        """Check the arguments of a builder; raises InputError for a missing or unknown one."""
        known = set(cls.__slots__)
        unknown = sorted(set(args) - known)
        if unknown:
            raise InputError(f"unknown argument {unknown[0]!r}; known: {', '.join(sorted(known))}")
        if not args.get("checkpoint"):
            raise InputError("no checkpoint: expected checkpoint=FOLDER or checkpoint=models:/name@alias")
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
        return cls(**{**args, **{name: int(value) for name, value in numbers.items()}})


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
    return Predictor(folder, refinement=args.refinement, device=device, precision=args.precision)


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
    max_ongoing_requests=100,
    max_queued_requests=200,
    health_check_period_s=10,
    health_check_timeout_s=30,
    ray_actor_options={"num_cpus": 0.1},
)
@ray_serve.ingress()
class Maskwright:
    """The ingress: it holds the sessions' values and no model. Its routes are those of serve/api.py."""

    def __init__(self, args: ServeArgs, owner: Any) -> None:
        self.args, self.owner = args, owner

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Build the app around those who run the model; Ray Serve calls this in the replica."""
        return create_app(RemoteMasks(self.owner), build_settings(self.args))


def build_app(args: dict[str, Any]) -> Application:
    """Build the application for `serve run` and `serve deploy`; `args` as in ServeArgs; raises InputError."""
    checked = ServeArgs.of(args)
    if checked.checkpoint.startswith(SCHEME):
        # Settled here, because a replica elsewhere may have another environment.
        checked = replace(checked, tracking_uri=registry_uri(checked.tracking_uri))
    return bind(checked)


def bind(args: ServeArgs) -> Application:
    """Bind the deployments, with a GPU reserved where the model should use one."""
    # Ray sets OMP_NUM_THREADS to the CPUs that a replica reserves, so torch would decide on one thread.
    args = replace(
        args,
        num_threads=args.num_threads or os.cpu_count() or 1,
        sessions=args.sessions or str(Path(tempfile.mkdtemp(prefix="maskwright-")) / "sessions.db"),
    )
    settings = build_settings(args)
    gpus = 1.0 if wants_gpu(args.device) else 0.0
    split = is_split(args)
    # A correction is a small part of a first click: it shares the GPU.
    environment = {"env_vars": MEMORY}
    heavy = {"num_cpus": 1, "num_gpus": gpus * (0.75 if split else 1), "runtime_env": environment}
    owner = FirstClick.options(ray_actor_options=heavy).bind(args, settings)
    if split:
        light = {"num_cpus": 0.5, "num_gpus": gpus * 0.25, "runtime_env": environment}
        owner = Correction.options(ray_actor_options=light).bind(args, settings, owner)
    return Maskwright.bind(args, owner)


@contextmanager
def impatient() -> Iterator[None]:
    """Let MLflow give up at once where no registry answers; it would try for minutes."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


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


def connect() -> bool:
    """Connect to the Ray of RAY_ADDRESS, else start one; returns whether it is our own. Raises InputError."""
    address = os.environ.get("RAY_ADDRESS")
    # Ray lets its workers wait for every other process of the machine (nice 15): batch work may, clicks may not.
    os.environ.setdefault("RAY_worker_niceness", "0")
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except ConnectionError as error:
        raise InputError(f"no Ray answers at RAY_ADDRESS={address}: {error}; start it, or unset RAY_ADDRESS") from error
    return not address


@contextmanager
def serving(args: ServeArgs, host: str, port: int) -> Iterator[None]:
    """Serve while the block runs, which begins when requests are answered; raises InputError.

    It runs on the Ray of this process, else on that of RAY_ADDRESS, else on one started for it. Of a Ray that is not
    ours only our own application is removed at the end.
    """
    connected_before = ray.is_initialized()
    ours = not connected_before and connect()
    deployed = False
    try:
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        if ours and args.device == "cuda" and ray.cluster_resources().get("GPU", 0) < 1:
            raise InputError("device cuda: Ray finds no GPU on this machine; use device auto or cpu")
        ray_serve.start(http_options=HTTPOptions(host=host, port=port), logging_config={"enable_access_log": False})
        deployed = True
        try:
            ray_serve.run(bind(args), name=APP_NAME, route_prefix="/")
        except (RuntimeError, RayError) as error:
            raise refusal(error, deployment_messages()) or error from None
        yield
    finally:
        if ours:
            ray_serve.shutdown()
        elif deployed:
            ray_serve.delete(APP_NAME)
        if not connected_before:
            ray.shutdown()


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


def run_local(args: ServeArgs, host: str, port: int, on_ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; `on_ready` is called once requests are answered."""
    stopped = threading.Event()
    with serving(args, host, port):
        for number in (signal.SIGINT, signal.SIGTERM):  # after Ray, which installs its own
            signal.signal(number, lambda *_: stopped.set())
        on_ready()
        stopped.wait()
