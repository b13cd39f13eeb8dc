"""What is said about a server: one record for the command line, serve/config.yaml and the app.

Only what was said is here. What is read from files and from the environment (tokens, passwords, the number of CPUs) is
read where it is used, and is in no option, repr, log or status of Ray Serve.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin, get_type_hints

import tyro
from annotated_types import Ge, Gt, Le
from pydantic import AfterValidator, BeforeValidator, FiniteFloat, TypeAdapter, ValidationError

from models.backend import Backend, check_backend
from models.errors import InputError
from models.precision import Precision
from serve.core.networks import parse_networks
from serve.core.sources import ONLY, Source, read_sources

MIB = 1 << 20
MAX_CLICKS = 200
"""Of one request, whatever is said: a list this long is checked in no time."""
LogFormat = Literal["off", "text", "json"]
ROOT_PATH = re.compile(r"(/(?!\.\.?(?:/|$))[A-Za-z0-9._~-]+)+")
ROUTES = ("v1", "web", "ls", "api", "metrics", "openapi.json")
"""What the server's own addresses begin with, so that no root path may."""


def _words(given: Any) -> Any:
    """Several values, each of which may be a text of several with commas between."""
    if isinstance(given, str):
        return tuple(word.strip() for word in given.split(",") if word.strip())
    if not _are_texts(given):
        return given
    return tuple(word for text in given for word in (_words(text) if "," in text else [text]))


def _sources(given: Any) -> Any:
    return read_sources(given) if isinstance(given, str) or _are_texts(given, Source) else given


def _are_texts(given: Any, *kinds: type) -> bool:
    return isinstance(given, list | tuple) and all(isinstance(each, (str, *kinds)) for each in given)


def _origins(given: tuple[str, ...]) -> tuple[str, ...]:
    for origin in given:
        # null is what pages without an address of theirs send: files, and frames in a sandbox.
        if origin != "null" and not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s]+/?", origin):
            raise InputError(f"the origin {origin!r} has no scheme and host: expected one such as https://name:port")
    return given


def _proxies(given: tuple[str, ...]) -> tuple[str, ...]:
    if "*" in given or any(network.prefixlen == 0 for network in parse_networks(given, "proxies")):
        raise InputError(
            f"proxies is {', '.join(given)}: then every client could say who it is; "
            "name the addresses or networks of the proxies alone, such as 10.0.3.0/24"
        )
    return given


def _root_path(given: str) -> str:
    path = given.rstrip("/")
    if path and (not ROOT_PATH.fullmatch(path) or path.split("/")[1] in ROUTES):
        raise InputError(
            f"root_path is {given!r}: expected a path such as /maskwright, of letters, digits and . _ ~ -, "
            f"which begins with none of {', '.join(ROUTES)}"
        )
    return path


def _whole(given: Any) -> Any:
    return int(given) if isinstance(given, str) and given.isdecimal() else given


def _text(given: Any) -> Any:
    return os.fspath(given) if isinstance(given, os.PathLike) else given


Place = Annotated[str, BeforeValidator(_text)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
AtLeast0 = Annotated[int, Ge(0)]
Positive = Annotated[FiniteFloat, Gt(0)]
AtLeast1 = Annotated[int, Ge(1)]
_SourceText = Annotated[
    Source,  # on a command line a text, which may name several: they are read with the others
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="[NAME=]FOLDER",
        instance_from_str=lambda texts: texts[0],
        is_instance=lambda given: isinstance(given, str | Source),
        str_from_instance=lambda given: [str(given)],
    ),
]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is said about a server; every value may come as text. Raises InputError for values that mean nothing."""

    checkpoint: Annotated[tuple[_SourceText, ...], tyro.conf.UseAppendAction, BeforeValidator(_sources)] = ()
    """Checkpoint folder, s3://BUCKET/FOLDER, maskwright:NAME, or models:/name@alias in the MLflow registry; by default
    maskwright:lite_s.
    To serve several models, again and again as NAME=FOLDER; the first is the default one."""
    refinement: Annotated[str | None, tyro.conf.arg(name="refine")] = None
    """Name of the refinement; by default what each checkpoint recommends."""
    tracking_uri: str | None = None
    """MLflow tracking URI; by default MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in this folder."""
    examples: Place | None = None
    """Folder of images that the page offers to try."""
    num_threads: Annotated[int, Ge(0), Le(1024)] = 0
    """Threads of the network on a CPU; 0: one per CPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs; auto: on a GPU where there is one, on a Ray that was joined on a CPU."""
    model_cpus: Positive = 1.0
    """CPUs that a model reserves of a Ray that was joined, and half as many for its corrections; of a Ray that this
    server starts all models have their share."""
    model_gpus: Positive = 1.0
    """GPUs that a model reserves there with device cuda; a part (0.5) lets models share one."""
    precision: Precision = "fp32"
    """bf16 is about twice as fast where the processor has instructions for it, and a little off."""
    backend: Backend = "torch"
    """onnx: onnxruntime on the CPU, with files that are made of the checkpoint once (docs/ONNX.md)."""
    max_megapixels: Positive = 32
    """Largest image that is accepted; the network needs 16 bytes per pixel for it."""
    bit_depth: Annotated[Literal[8, 10, 12, 14, 16, 0], BeforeValidator(_whole)] = 0
    """Bits that the values of 16-bit images use: 8, 10, 12, 14 or 16 (what is beyond is white); 0: of each image the
    fewest of these that hold its largest value."""
    sessions: Place | None = field(default=None, repr=False)
    """File that keeps sessions, so that they survive a restart; default maskwright-UID/sessions-PORT.db in the folder
    for temporary files, for its owner alone. Or redis://HOST:PORT/DB, rediss:// or unix:// of a Redis, for servers on
    several machines; its password is taken from MASKWRIGHT_REDIS_PASSWORD."""
    idle_minutes: Positive = 60
    """After so long without use a session ends."""
    tokens: Place | None = None
    """File of tokens, made by `python -m serve.access NAME ROLE >> FILE`; without it no token is asked for."""
    hosts: Words = ()
    """Names that the server goes by beside localhost and --host; * for any."""
    origins: Annotated[Words, AfterValidator(_origins)] = ()
    """Origins of pages elsewhere that may use the server, as https://name:port."""
    proxies: Annotated[Words, AfterValidator(_proxies)] = ("127.0.0.0/8", "::1/128")
    """Networks of proxies whose Forwarded and X-Forwarded-* headers are believed, such as 10.0.3.0/24; by default this
    machine alone."""
    root_path: Annotated[str, AfterValidator(_root_path)] = ""
    """Path below which a proxy shows the server, such as /maskwright, whether or not it takes it off."""
    clicks_per_second: Annotated[FiniteFloat, Ge(0)] = 50
    """Most clicks of one client; 0: no limit."""
    opens_per_minute: Annotated[FiniteFloat, Ge(0)] = 120
    """Most images that one client opens; 0: no limit."""
    cvat_clients: Words = ("127.0.0.0/8", "::1/128")
    """Networks that CVAT may call from, such as 172.16.0.0/12; by default this machine alone."""
    image_hosts: Words = ()
    """HOST or HOST:PORT that Label Studio's images may be fetched from; by default none."""
    image_networks: Words = ()
    """Private networks that these hosts may be in; public addresses always may be used."""
    label_studio_url: str | None = None
    """Address of Label Studio, for images that it keeps; its token is taken from LABEL_STUDIO_API_KEY."""
    negative_labels: Words = ()
    """Labels of Label Studio that make a click a negative one."""
    log_format: LogFormat = "off"
    """A line per request, as JSON or as text for people; off: what goes wrong alone."""
    max_clicks: Annotated[int, Ge(1), Le(MAX_CLICKS)] = MAX_CLICKS
    """Most clicks on an object."""
    max_objects: AtLeast1 = 200
    """Most finished objects of a session."""
    max_sessions: AtLeast1 = 1000
    """Most sessions at once."""
    max_waiting: AtLeast1 = 64
    """Requests that are with the model or wait for it; one more is refused at once."""
    max_live: AtLeast1 = 200
    """Sockets of /live; each keeps the mask it sent last, as bits."""
    max_body_bytes: AtLeast1 = 32 * MIB
    """Largest request that brings an image."""
    max_click_body_bytes: AtLeast1 = 64 * 1024
    """Largest request that brings clicks."""
    max_object_body_bytes: AtLeast1 = MIB
    """Largest request that brings a finished object."""
    max_added_bytes: AtLeast0 = 8 * MIB
    """Run lengths of a session's finished objects, beyond which none is added."""
    max_stored_bytes: AtLeast0 = 2048 * MIB
    """Encoded images and initial masks: what a session cannot be without."""
    max_cache_bytes: AtLeast0 = 2048 * MIB
    """Decoded images and predictor states: rebuilt when needed."""
    request_timeout_s: Positive = 100.0
    """From the moment a request is whole to its answer."""
    fetch_timeout_s: Positive = 10.0
    """For an image of Label Studio that is fetched."""

    def __post_init__(self) -> None:
        """Bring every value to its type."""
        for name, (hint, adapter) in _types(type(self)).items():
            given = getattr(self, name)
            try:
                object.__setattr__(self, name, adapter.validate_python(given))
            except ValidationError as error:
                refused = error.errors()[0].get("ctx", {}).get("error")
                if isinstance(refused, InputError):
                    raise refused from None
                raise InputError(f"{self.flag(name)} is {given!r}: expected {_expected(hint)}") from None
        check_backend(self.backend, self.precision, self.device)

    @classmethod
    def of(cls, args: Mapping[str, Any]) -> Self:
        """Read the arguments of a builder of Ray Serve; None, "" and a 0 that cannot be meant stand for the default."""
        known = {each.name for each in fields(cls)}
        unknown = sorted(set(args) - known)
        if unknown:
            raise InputError(f"unknown argument {unknown[0]!r}; known: {', '.join(sorted(known))}")
        given = {name: value for name, value in args.items() if value is not None and value != ""}
        for name in ("max_megapixels", "idle_minutes"):
            if str(given.get(name)) == "0":
                del given[name]
        return cls(**given)

    @staticmethod
    def flag(name: str) -> str:
        """How an option is called where it is given."""
        return name

    @property
    def max_pixels(self) -> int:
        """Of an image: 32 million are 96 MB as bytes, and 384 MB as the network's float32."""
        return round(self.max_megapixels * 1_000_000)

    @property
    def idle_timeout_s(self) -> float:
        """Seconds without use after which a session ends."""
        return 60.0 * self.idle_minutes

    @property
    def place(self) -> str:
        """Where the checkpoint of the only model is, or of the first one."""
        return self.checkpoint[0].place

    def models(self) -> dict[str, Self]:
        """The same for each model alone, by name; the first is the default one."""
        return {each.name: self.serving([Source(ONLY, each.place)]) for each in self.checkpoint}

    def moved(self, name: str, place: str) -> Self:
        """The same with another checkpoint for the model of this name."""
        return self.serving(Source(each.name, place if each.name == name else each.place) for each in self.checkpoint)

    def serving(self, sources: Iterable[Source]) -> Self:
        """The same with other models."""
        return replace(self, checkpoint=tuple(sources))


@cache
def _types(kind: type[Options]) -> dict[str, tuple[Any, TypeAdapter[Any]]]:
    """Type of each option, with its range, and what brings values to it."""
    hints = get_type_hints(kind, include_extras=True)
    return {each.name: (hints[each.name], TypeAdapter(hints[each.name])) for each in fields(kind)}


def _expected(hint: Any) -> str:
    """In words, what a type with its range takes."""
    rest: tuple[Any, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *more = get_args(hint)
        rest = tuple(more)
    if get_origin(hint) is Literal:
        return ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return "a text, or a list of texts"
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_expected(kind) for kind in get_args(hint) if kind is not NoneType)
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[hint]
    low, high = (next((each for each in rest if isinstance(each, end)), None) for end in (Ge | Gt, Le))
    if isinstance(low, Gt):
        return f"{words} above {low.gt}"
    if isinstance(low, Ge):
        return f"{words}, {low.ge} to {high.le}" if isinstance(high, Le) else f"{words}, {low.ge} or more"
    return words
