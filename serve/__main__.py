"""`python -m serve [--checkpoint DIR]`: the server on this machine, on Ray Serve or (--plain) on uvicorn alone."""

import ipaddress
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from models.backend import Backend, check_backend
from models.decoding import Decoding
from models.errors import InputError
from models.precision import Precision
from serve.core.settings import LogFormat
from serve.core.sources import Source, join_sources, read_sources
from serve.core.tokens import read_tokens
from serve.loading.checkpoints import Checkpoints
from serve.loading.follow import Follower, following
from serve.loading.model_source import SCHEME, is_alias, local_registry_uri
from serve.observing.logs import install_logs
from serve.on_ray.environment import HAPROXY, prepare_ray_auth
from serve.sessions.open_store import is_url, open_store, settled


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve a model: the page for clicking at /, the HTTP interface under /v1, its description at /openapi.json."""

    checkpoint: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Checkpoint folder, maskwright:NAME, or models:/name@alias in the MLflow registry; by default maskwright:lite_s.
    To serve several models, again and again as NAME=FOLDER; the first is the default one."""
    refine: str | None = None
    """Name of the refinement; by default what each checkpoint recommends."""
    follow: float = 0.0
    """Seconds between looks at where each models:/name@alias leads: once it leads elsewhere, the model is replaced
    while the server serves. 0: never."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8000
    """Port to listen on."""
    examples: str | None = None
    """Folder of images that the page offers to try."""
    num_threads: int = 0
    """Threads of the network on a CPU; 0: one per CPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network runs; auto: on a GPU where there is one."""
    precision: Precision = "fp32"
    """bf16 is about twice as fast where the processor has instructions for it, and a little off."""
    backend: Backend = "torch"
    """onnx: onnxruntime on the CPU, with files that are made of the checkpoint once (docs/ONNX.md)."""
    max_megapixels: int = 32
    """Largest image that is accepted; the network needs 16 bytes per pixel for it."""
    bit_depth: int = 0
    """Bits that the values of 16-bit images use: 8, 10, 12, 14 or 16 (what is beyond is white); 0: of each image the
    fewest of these that hold its largest value."""
    sessions: str = ""
    """File that keeps sessions, so that they survive a restart; default maskwright-UID/sessions-PORT.db in the folder
    for temporary files, for its owner alone. Or redis://HOST:PORT/DB, rediss:// or unix:// of a Redis, for servers on
    several machines; its password is taken from MASKWRIGHT_REDIS_PASSWORD."""
    idle_minutes: int = 60
    """After so long without use a session ends."""
    tracking_uri: str | None = None
    """MLflow tracking URI; by default MLFLOW_TRACKING_URI, else sqlite:///mlflow.db in this folder."""
    cvat_clients: str | None = None
    """Networks that CVAT may call from, such as 172.16.0.0/12, separated by commas; by default this machine alone."""
    image_hosts: str | None = None
    """HOST or HOST:PORT that Label Studio's images may be fetched from, separated by commas; by default none."""
    image_networks: str | None = None
    """Private networks that these hosts may be in, separated by commas; public addresses always may be used."""
    label_studio_url: str | None = None
    """Address of Label Studio, for images that it keeps; its token is taken from LABEL_STUDIO_API_KEY."""
    negative_labels: str | None = None
    """Labels of Label Studio that make a click a negative one, separated by commas."""
    plain: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run everything in this process, without Ray."""
    proxy: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Let Ray Serve's proxies and replicas answer HTTP, as on a cluster, and not this process: some ms slower."""
    tokens: str | None = None
    """File of tokens, made by `python -m serve.access NAME ROLE >> FILE`; without it no token is asked for."""
    hosts: tuple[str, ...] = ()
    """Names that the server goes by beside localhost and --host; * for any."""
    origins: tuple[str, ...] = ()
    """Origins of pages elsewhere that may use the server, as https://name:port."""
    clicks_per_second: int = 50
    """Most clicks of one client; 0: no limit."""
    opens_per_minute: int = 120
    """Most images that one client opens; 0: no limit."""
    log_format: LogFormat = "off"
    """A line per request, as JSON or as text for people; off: what goes wrong alone."""
    metrics_port: int = 0
    """Port on which the Ray that is started gives its metrics to Prometheus; 0: one that is free. With --plain they are
    at /metrics."""
    insecure: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Allow an address that other machines can reach, although the server asks for no token."""


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check(options: Serve) -> None:
    """Raise InputError for options that cannot be served."""
    if not is_loopback(options.host) and options.tokens is None and not options.insecure:
        raise InputError(
            f"--host {options.host} lets other machines in, and without --tokens this server has no login: "
            "use 127.0.0.1, give --tokens FILE, or add --insecure on a network you trust"
        )
    if options.plain and options.proxy:
        raise InputError("--proxy is about Ray Serve, and --plain runs without it: leave one of the two out")
    # With HAProxy, Ray Serve listens on every interface, whatever host it is given.
    if options.proxy and os.environ.get(HAPROXY) == "1" and not (options.tokens or options.insecure):
        raise InputError(
            f"{HAPROXY}=1 lets other machines in with --proxy, whatever --host says, and without --tokens this server "
            "has no login: unset it, give --tokens FILE, or add --insecure on a network you trust"
        )
    check_backend(options.backend, options.precision, options.device)
    if options.tokens is not None:
        read_tokens(Path(options.tokens))
    if min(options.clicks_per_second, options.opens_per_minute) < 0:
        raise InputError("--clicks-per-second and --opens-per-minute: expected 0 (no limit) or more")
    if not 1 <= options.port <= 65535:
        raise InputError(f"--port is {options.port}: expected 1 to 65535")
    if options.follow < 0:
        raise InputError(f"--follow is {options.follow:g}: expected seconds between two looks, or 0 for none")
    if options.follow and not any(is_alias(each.place) for each in read_sources(options.checkpoint)):
        raise InputError("--follow looks at where aliases lead, and no --checkpoint is a models:/name@alias")
    if not 0 <= options.metrics_port <= 65535:
        raise InputError(f"--metrics-port is {options.metrics_port}: expected 0 (any that is free) to 65535")
    if options.num_threads < 0:
        raise InputError(f"--num-threads is {options.num_threads}: expected 0 or more")
    if options.max_megapixels < 1:
        raise InputError(f"--max-megapixels is {options.max_megapixels}: expected 1 or more")
    Decoding(bit_depth=options.bit_depth)
    if options.idle_minutes < 1:
        raise InputError(f"--idle-minutes is {options.idle_minutes}: expected 1 or more")
    # The proxies of a cluster listen on its machines, and may be there already; a Redis may be for those alone.
    if options.plain or not os.environ.get("RAY_ADDRESS"):
        check_port(options.host, options.port)
        if is_url(options.sessions):
            open_store(options.sessions)


def check_port(host: str, port: int) -> None:
    """Raise InputError unless a server can listen there now."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # of a server that has just ended
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        raise InputError(
            f"cannot listen on {host} port {port} ({error.strerror}): stop what runs there, or choose another --port"
        ) from None


def default_sessions(port: int) -> str:
    """Where a server on this port keeps its sessions: in a folder of this user's that others cannot read."""
    return f"{tempfile.gettempdir()}/maskwright-{os.getuid()}/sessions-{port}.db"


def say(line: str) -> None:
    """Tell the person at the terminal."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def run(options: Serve) -> None:
    """Serve until Ctrl-C; raises InputError before anything is started."""
    check(options)
    with tempfile.TemporaryDirectory(prefix="maskwright-", ignore_cleanup_errors=True) as home:
        _run(options, Path(home))


def _run(options: Serve, home: Path) -> None:
    from models.checkpoint import describe
    from models.onnx_backend import onnx_files
    from models.refinement import named

    if options.examples is not None and not Path(options.examples).is_dir():
        raise InputError(f"--examples {options.examples} is no folder: give a folder of JPEG, PNG or WebP images")
    sources = read_sources(options.checkpoint)
    registered = any(each.place.startswith(SCHEME) for each in sources)
    checkpoints = Checkpoints(local_registry_uri(options.tracking_uri) if registered else None, home)
    pinned = {each.name: checkpoints.pin(each.place) for each in sources}
    places = {name: checkpoints.load(place) for name, place in pinned.items()}
    refinement = options.refine
    if refinement is not None and refinement.endswith(".json"):
        refinement = str(Path(refinement).resolve())
    for place in places.values():
        if options.backend == "onnx":
            onnx_files(place)  # once, before all replicas want them
        named(refinement or describe(place).get("info", {}).get("refinement"))
    examples = str(Path(options.examples).resolve()) if options.examples else None
    prepare_ray_auth()  # before deployments imports ray
    from serve.loading.args import ServeArgs

    args = ServeArgs(
        checkpoint=join_sources(Source(name, place) for name, place in places.items()),
        refinement=refinement,
        examples=examples,
        num_threads=options.num_threads,
        device=options.device,
        precision=options.precision,
        backend=options.backend,
        max_megapixels=options.max_megapixels,
        bit_depth=options.bit_depth,
        sessions=settled(options.sessions or default_sessions(options.port)),
        idle_minutes=options.idle_minutes,
        tokens=str(Path(options.tokens).resolve()) if options.tokens else None,
        hosts=",".join([options.host, *options.hosts]),
        origins=",".join(options.origins),
        clicks_per_second=options.clicks_per_second,
        opens_per_minute=options.opens_per_minute,
        cvat_clients=options.cvat_clients,
        image_hosts=options.image_hosts,
        image_networks=options.image_networks,
        label_studio_url=options.label_studio_url,
        negative_labels=options.negative_labels,
        log_format=options.log_format,
    )

    def follow(take: Callable[[str, str], None]) -> AbstractContextManager[None]:
        def take_and_drop(name: str, place: str) -> None:
            take(name, place)
            places[name] = place
            checkpoints.keep(places.values())

        aliases = [each for each in sources if is_alias(each.place)] if options.follow else []
        follower = Follower(aliases, pinned, checkpoints.pin, checkpoints.fetch, take_and_drop) if aliases else None
        return following(follower, options.follow)

    url = f"http://{f'[{options.host}]' if ':' in options.host else options.host}:{options.port}"
    say(f"Starting {url} ... (Ctrl-C stops)")
    ready = f"Ready: open {url}"
    install_logs(options.log_format)
    if options.plain:
        from serve.http.app import create_app
        from serve.http.server import answering
        from serve.observing import metrics
        from serve.observing.prometheus import PrometheusSink, add_metrics
        from serve.start.local import LocalFleet

        sink = PrometheusSink()
        metrics.install(sink)
        local = LocalFleet(args)
        app = create_app(local.fleet, local.settings)
        add_metrics(app, sink, asks_for_token=bool(local.settings.tokens))
        with answering(app, options.host, options.port), follow(local.take):
            until_stopped(ready)
    else:
        from serve.on_ray.serving import serving

        with serving(args, options.host, options.port, options.metrics_port, proxy=options.proxy) as take, follow(take):
            until_stopped(ready)


def until_stopped(ready: str) -> None:
    """Say that requests are answered, and wait for Ctrl-C or SIGTERM."""
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # after Ray, which installs its own
        signal.signal(number, lambda *_: stopped.set())
    say(ready)
    stopped.wait()


def main() -> None:
    """Entry point: what the user got wrong is one line and exit status 2."""
    try:
        run(tyro.cli(Serve, prog="python -m serve"))
    except InputError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:  # before it was ready, or a second one while it ends
        sys.exit(130)


if __name__ == "__main__":
    main()
