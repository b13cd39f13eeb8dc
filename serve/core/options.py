"""The options of a server: one record for the command line, serve/config.yaml and the app.

The record holds only what the user gave. Values from files and from the environment (tokens, passwords, the number of
CPUs) are read where they are used, so that they appear in no option, repr, log or status of Ray Serve.
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
"""Upper limit of clicks in one request, whatever the option says; a list of this length is checked quickly."""
LogFormat = Literal["off", "text", "json"]
ROOT_PATH = re.compile(r"(/(?!\.\.?(?:/|$))[A-Za-z0-9._~-]+)+")
ROUTES = ("v1", "web", "ls", "api", "metrics", "openapi.json")
"""First segments of the server's own paths; a root path may not begin with one of them."""


def _words(given: Any) -> Any:
    """Split comma-separated texts, alone or in a list, into a tuple of values."""
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
        # Pages without an origin (local files, sandboxed frames) send "null".
        if origin != "null" and not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*://[^/\s]+/?", origin):
            raise InputError(f"the origin {origin!r} lacks a scheme or a host: expected one such as https://name:port")
    return given


def _proxies(given: tuple[str, ...]) -> tuple[str, ...]:
    if "*" in given or any(network.prefixlen == 0 for network in parse_networks(given, "proxies")):
        raise InputError(
            f"proxies is {', '.join(given)}, with which every client could claim any address; "
            "name only the addresses or networks of your proxies, such as 10.0.3.0/24"
        )
    return given


def _root_path(given: str) -> str:
    path = given.rstrip("/")
    if path and (not ROOT_PATH.fullmatch(path) or path.split("/")[1] in ROUTES):
        raise InputError(
            f"root_path is {given!r}: expected a path such as /maskwright, made of letters, digits and . _ ~ -, "
            f"that does not begin with any of {', '.join(ROUTES)}"
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
    Source,  # on the command line a text that may name several models, so it is parsed with the others later
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
    """Options of a server. Every value may be given as text; raises InputError for an invalid one."""

    checkpoint: Annotated[tuple[_SourceText, ...], tyro.conf.UseAppendAction, BeforeValidator(_sources)] = ()
    """Checkpoint folder, s3://BUCKET/FOLDER, maskwright:NAME or MLflow's models:/name@alias; default maskwright:lite_s.
    To serve several models, repeat the option as NAME=FOLDER; the first one is the default model."""
    refinement: Annotated[str | None, tyro.conf.arg(name="refine")] = None
    """Name of the refinement; by default the one that each checkpoint recommends."""
    tracking_uri: str | None = None
    """MLflow tracking URI; by default MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in this folder."""
    examples: Place | None = None
    """Folder of example images that the page offers."""
    num_threads: Annotated[int, Ge(0), Le(1024)] = 0
    """CPU threads of the network; 0: one per CPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the network. auto: a GPU if this machine has one; the CPU on a Ray cluster that was already running."""
    model_cpus: Positive = 1.0
    """CPUs that each model reserves on a Ray cluster that was already running, plus half as many for corrections.
    If this server starts Ray, the models share all CPUs instead."""
    model_gpus: Positive = 1.0
    """GPUs that each model reserves on such a cluster with --device cuda; a fraction (0.5) lets models share a GPU."""
    precision: Precision = "fp32"
    """bf16 is about twice as fast on processors with bf16 instructions, and slightly less exact."""
    backend: Backend = "torch"
    """onnx: onnxruntime on the CPU, with files exported from the checkpoint at the first start (docs/ONNX.md)."""
    max_megapixels: Positive = 32
    """Largest image accepted, in megapixels; the network needs 16 bytes per pixel."""
    bit_depth: Annotated[Literal[8, 10, 12, 14, 16, 0], BeforeValidator(_whole)] = 0
    """Bits that 16-bit images use; larger values become white. 0: for each image, the fewest that hold its values."""
    sessions: Place | None = field(default=None, repr=False)
    """File that keeps sessions across restarts; by default maskwright-UID/sessions-PORT.db in the temporary folder.
    For servers on several machines, redis://HOST:PORT/DB, rediss:// or unix://; password: MASKWRIGHT_REDIS_PASSWORD."""
    idle_minutes: Positive = 60
    """Minutes without use after which a session ends."""
    tokens: Place | None = None
    """File of tokens, made by `python -m serve.access NAME ROLE >> FILE`; without it, the server requires no token."""
    hosts: Words = ()
    """Host names that the server accepts besides localhost and --host; * accepts any."""
    origins: Annotated[Words, AfterValidator(_origins)] = ()
    """Origins of other sites whose pages may use the server, such as https://name:port."""
    proxies: Annotated[Words, AfterValidator(_proxies)] = ("127.0.0.0/8", "::1/128")
    """Networks of proxies whose Forwarded and X-Forwarded-* headers are trusted; by default only this machine."""
    root_path: Annotated[str, AfterValidator(_root_path)] = ""
    """Path under which a proxy publishes the server, such as /maskwright, whether or not the proxy strips it."""
    clicks_per_second: Annotated[FiniteFloat, Ge(0)] = 50
    """Maximum clicks per second and client; 0: no limit."""
    opens_per_minute: Annotated[FiniteFloat, Ge(0)] = 120
    """Maximum images that a client opens per minute; 0: no limit."""
    cvat_clients: Words = ("127.0.0.0/8", "::1/128")
    """Networks from which CVAT may call, such as 172.16.0.0/12; by default only this machine."""
    image_hosts: Words = ()
    """HOST or HOST:PORT from which Label Studio's images may be fetched; by default none."""
    image_networks: Words = ()
    """Private networks in which these hosts may be; public addresses are always allowed."""
    label_studio_url: str | None = None
    """Address of Label Studio, for images that it stores; its token is read from LABEL_STUDIO_API_KEY."""
    negative_labels: Words = ()
    """Labels of Label Studio that make a click negative."""
    log_format: LogFormat = "off"
    """Format of the log: one line per request, as json or as text; off: only failures."""
    max_clicks: Annotated[int, Ge(1), Le(MAX_CLICKS)] = MAX_CLICKS
    """Maximum clicks on an object."""
    max_objects: AtLeast1 = 200
    """Maximum finished objects of a session."""
    max_sessions: AtLeast1 = 1000
    """Maximum open sessions."""
    max_waiting: AtLeast1 = 64
    """Maximum requests that the model works on or that wait for it; further ones are refused at once."""
    max_live: AtLeast1 = 200
    """Maximum open WebSockets; each keeps the last mask that it sent, one bit per pixel."""
    max_body_bytes: AtLeast1 = 32 * MIB
    """Largest body in bytes of a request with an image."""
    max_click_body_bytes: AtLeast1 = 64 * 1024
    """Largest body in bytes of a request with clicks."""
    max_object_body_bytes: AtLeast1 = MIB
    """Largest body in bytes of a request with a finished object."""
    max_added_bytes: AtLeast0 = 8 * MIB
    """Maximum bytes of run lengths of a session's finished objects; no object is added beyond that."""
    max_stored_bytes: AtLeast0 = 2048 * MIB
    """Maximum bytes of stored images and initial masks, which sessions cannot do without."""
    max_cache_bytes: AtLeast0 = 2048 * MIB
    """Maximum bytes of cached images and predictor states, which are rebuilt when needed."""
    request_timeout_s: Positive = 100.0
    """Seconds to answer a request after all of it has arrived."""
    fetch_timeout_s: Positive = 10.0
    """Seconds to fetch an image of Label Studio."""

    def __post_init__(self) -> None:
        """Convert every value to its type."""
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
        """Read the arguments of a Ray Serve builder; None, "" and a 0 that would be meaningless mean the default."""
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
        """Return the name under which the user gives an option."""
        return name

    @property
    def max_pixels(self) -> int:
        """Maximum pixels of an image: 32 million are 96 MB as bytes, and 384 MB as the network's float32."""
        return round(self.max_megapixels * 1_000_000)

    @property
    def idle_timeout_s(self) -> float:
        """Seconds without use after which a session ends."""
        return 60.0 * self.idle_minutes

    @property
    def place(self) -> str:
        """Location of the checkpoint of the first, or only, model."""
        return self.checkpoint[0].place

    def models(self) -> dict[str, Self]:
        """Return options for each model separately, by name; the first is the default model."""
        return {each.name: self.serving([Source(ONLY, each.place)]) for each in self.checkpoint}

    def moved(self, name: str, place: str) -> Self:
        """Return options in which the model of this name has another checkpoint."""
        return self.serving(Source(each.name, place if each.name == name else each.place) for each in self.checkpoint)

    def serving(self, sources: Iterable[Source]) -> Self:
        """Return options with other models."""
        return replace(self, checkpoint=tuple(sources))


@cache
def _types(kind: type[Options]) -> dict[str, tuple[Any, TypeAdapter[Any]]]:
    """Return the annotated type of each option and the adapter that validates it."""
    hints = get_type_hints(kind, include_extras=True)
    return {each.name: (hints[each.name], TypeAdapter(hints[each.name])) for each in fields(kind)}


def _expected(hint: Any) -> str:
    """Describe in words which values a type with its range accepts."""
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
