"""What a deployment is given, and what is built of it in a process: predictor, engine, settings. No Ray."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from models.backend import Backend, check_backend
from models.box import DEFAULT
from models.decoding import Decoding
from models.errors import InputError
from models.precision import Precision
from serve.core.settings import Settings
from serve.core.sources import Source, join_sources, read_sources
from serve.core.tokens import read_tokens
from serve.engine.engine import Engine, ModelNan
from serve.engine.forwards import measure
from serve.loading.model_source import resolve
from serve.observing.logs import check_format

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("fp32", "bf16")
BACKENDS = ("torch", "onnx")
LISTS = ("cvat_clients", "image_hosts", "image_networks", "negative_labels")  # arguments of several values


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeArgs:
    """What a deployment is given; every field may come as text, as `serve run module:builder key=value` sends it.

    `checkpoint` a folder, maskwright:NAME, or models:/name@alias, whose registry is at `tracking_uri` (None: at
    MLFLOW_TRACKING_URI), or several as "a=FOLDER,b=models:/name@alias", of which the first is the default one;
    `refinement` a name (None: what the checkpoint recommends); `num_threads` of the network on a CPU (0: one per CPU);
    `device` auto (a GPU where there is one), cpu or cuda; `precision` fp32 or bf16; `backend` torch or
    onnx (on the CPU); `max_megapixels` of an image;
    `bit_depth` of 16-bit images, 8, 10, 12, 14 or 16 (0: of each its own);
    `sessions` the file that sessions are kept in, or the URL of a Redis, whose password is best in the ingress's
    environment, MASKWRIGHT_REDIS_PASSWORD (None: a file that ends with the application's processes); `idle_minutes`
    after which an unused session ends; `tokens` the file of tokens (None: no token is asked for), there on every
    machine that has an ingress; `hosts` and `origins` names and origins with commas between; `clicks_per_second` and
    `opens_per_minute` of one client (0: no limit); `log_format` off, text or json: a line per request.
    The others are for Label Studio and CVAT, as in Settings; several values are separated by commas. Label Studio's
    token is in the environment, LABEL_STUDIO_API_KEY.
    """

    checkpoint: str = DEFAULT
    refinement: str | None = None
    examples: str | None = None
    tracking_uri: str | None = None
    num_threads: int = 0
    device: str = "auto"
    precision: Precision = "fp32"
    backend: Backend = "torch"
    max_megapixels: int = 32
    bit_depth: int = 0
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
        """Check the arguments of a builder; raises InputError for an unknown one, or a bad value."""
        known = set(cls.__slots__)
        unknown = sorted(set(args) - known)
        if unknown:
            raise InputError(f"unknown argument {unknown[0]!r}; known: {', '.join(sorted(known))}")
        args = {**args, "checkpoint": args.get("checkpoint") or DEFAULT}
        read_sources([args["checkpoint"]])
        numbers = {
            "num_threads": args.get("num_threads") or 0,
            "max_megapixels": args.get("max_megapixels") or 32,
            "bit_depth": args.get("bit_depth") or 0,
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
        if args.get("backend", "torch") not in BACKENDS:
            raise InputError(f"backend is {args['backend']!r}: expected {', '.join(BACKENDS)}")
        check_backend(args.get("backend", "torch"), args.get("precision", "fp32"), args.get("device", "auto"))
        Decoding(bit_depth=int(numbers["bit_depth"]))
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
    device = "cuda" if has_cuda and args.device != "cpu" and args.backend == "torch" else "cpu"
    folder = resolve(args.checkpoint, args.tracking_uri)
    predictor = Predictor(
        folder, refinement=args.refinement, device=device, precision=args.precision, backend=args.backend
    )
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
        bit_depth=args.bit_depth,
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
