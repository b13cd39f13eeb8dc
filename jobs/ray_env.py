"""Connect a job to Ray: to the cluster that a flag, RAY_ADDRESS or `ray start` names, else to a new separate one."""

import logging
import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from jobs.ray_pending import said_while_pending
from models.errors import InputError
from models.short_folder import prepare_ray_tmpdir
from pipeline.data.sample import printable
from pipeline.evaluation.config import EvaluationScaling

ADDRESS, LOCAL = "RAY_ADDRESS", "local"
RECORD = "what `ray start` recorded on this machine"
ANSWER_S = 10.0
"""Seconds that a running Ray has to answer."""
UNASKED = 8
"""Actors that a job requests on a joined cluster if its flags give no number."""


@contextmanager
def connected(given: str = "", *, num_cpus: int | None = None) -> Iterator[None]:
    """Stay connected to the Ray that `chosen` selects while the block runs; raises InputError.

    A separate Ray accepts this process only: its token is in the environment and is not written to the home folder.
    RAY_ADDRESS names the selected Ray while the block runs, also in processes of a Ray that is started here.
    MASKWRIGHT_VERBOSE=1 shows the logs of Ray and its workers. `num_cpus`: CPUs of a Ray that is started here.
    """
    for text in sys.argv:  # Ray stores the command line, which must be UTF-8
        if printable(text) != text:
            raise InputError(f"{printable(text)} is not UTF-8: rename the folder, or use a link whose name is UTF-8")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    address, source = chosen(given)
    before = os.environ.get(ADDRESS)
    if address == LOCAL and not any(
        os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    ):
        # Ray reads these once, when it is first imported.
        os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)
    import ray
    from ray import data

    if ray.is_initialized():
        yield
        return
    verbose = bool(os.environ.get("MASKWRIGHT_VERBOSE"))
    level = logging.INFO if verbose else logging.ERROR
    try:
        if address == LOCAL:
            prepare_ray_tmpdir()
            os.environ[ADDRESS] = LOCAL
            ray.init(address=LOCAL, num_cpus=num_cpus, logging_level=level, log_to_driver=verbose)
        else:
            _join(address, source, level, verbose)
        data.DataContext.get_current().enable_progress_bars = False
        for name in ("ray.data", "ray.train", "ray.tune", "ray.serve"):
            logging.getLogger(name).setLevel(logging.INFO if verbose else logging.WARNING)
        with said_while_pending() if address != LOCAL else nullcontext():
            yield
    finally:
        ray.shutdown()
        os.environ.pop(ADDRESS, None)
        if before is not None:
            os.environ[ADDRESS] = before


def chosen(given: str = "") -> tuple[str, str]:
    """Return the address of the Ray to join and where it was found; LOCAL for a separate one.

    Looked up in this order: `given` (--ray), RAY_ADDRESS, which is set in submitted jobs, and the record of `ray start`
    on this machine. "auto" means that record too; a job never joins another Ray that happens to run here. Raises
    InputError if "auto" is given and there is no record.
    """
    named = next((pair for pair in ((given, "--ray"), (os.environ.get(ADDRESS, ""), ADDRESS)) if pair[0]), ("", ""))
    if named[0] not in ("", "auto"):
        return named
    path = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray" / "ray_current_cluster"
    recorded = path.read_text().strip() if path.is_file() else ""
    if recorded:
        return recorded, RECORD
    if named[0] == "auto":
        raise InputError(
            f"{named[1]} auto means {RECORD}, and there is no record: give an address, or local for a separate Ray"
        )
    return LOCAL, ""


def _join(address: str, source: str, level: int, verbose: bool) -> None:
    """Connect to a running Ray and print which; raises InputError."""
    import ray
    from ray.exceptions import AuthenticationError

    where = f"Ray at {address} ({source})"
    host, _, port = address.rpartition(":")
    if "://" not in address and port.isdigit():
        try:  # Ray itself would try for a minute
            socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
            _answers(address)
        except OSError as error:
            advice = "clear the record with `ray stop`" if source == RECORD else "start it, or give another address"
            raise InputError(
                f"no {where} answers ({error.strerror or error}): {advice}, or use --ray local for a separate Ray"
            ) from None
    if source == RECORD:
        os.environ.pop(ADDRESS, None)  # so that Ray reads its record, and the token of this user
    try:
        with nullcontext() if verbose else _no_warnings():
            ray.init(address=None if source == RECORD else address, logging_level=level, log_to_driver=verbose)
    except (AuthenticationError, ConnectionError, RuntimeError, ValueError) as error:
        if isinstance(error, AuthenticationError) or "InvalidAuthToken" in str(error.__cause__):
            raise InputError(
                f"{where} refuses the token of this process: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or "
                "RAY_AUTH_TOKEN_PATH to the token that it was started with"
            ) from error
        raise InputError(f"{where} cannot be joined: {' '.join(str(error).split())}") from error
    os.environ[ADDRESS] = address
    print(f"joined {where}", flush=True)


def _answers(address: str) -> None:
    """Raise OSError if another program listens at the address; Ray itself would wait for minutes."""
    import grpc

    if os.environ.get("RAY_USE_TLS") == "1":
        return
    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_S)
        except grpc.FutureTimeoutError:
            raise OSError("another program listens there") from None


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Discard standard error, also that of C++: while it connects, Ray writes a warning there every second."""
    sys.stderr.flush()
    before = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def is_own() -> bool:
    """Return whether Ray is a separate one that cannot grow beyond this machine; works in every process of the job."""
    return os.environ.get(ADDRESS) == LOCAL


def refuse_nodes(flag: str, nodes: str) -> None:
    """Raise InputError for a flag that selects nodes if Ray is a separate one, which has one node."""
    if nodes and is_own():
        raise InputError(
            f"{flag} {nodes}: a separate Ray is on this machine only: leave the flag out, or join a cluster with --ray"
        )


def fit_actors(wanted: int, num_cpus: float, num_pieces: int) -> tuple[int, float]:
    """Return the size of a pool: the maximum number of actors, and the CPUs that each reserves.

    On a joined cluster these are the values of the flags (`wanted` 0: UNASKED actors), whatever the cluster has now,
    because it may grow. On a separate Ray the actors share its CPUs (0: one per CPU), and half a CPU stays unreserved:
    a pool that reserved all of them would silently block the other tasks of the job.
    """
    if not is_own():
        return max(1, min(wanted or UNASKED, num_pieces)), num_cpus
    cpus = resources().get("CPU", 1.0)
    most = max(1, min(wanted or int(cpus / min(num_cpus, cpus)), num_pieces))
    return most, num_cpus if most * num_cpus <= cpus - 0.5 else round(min(num_cpus, (cpus - 0.5) / most), 2)


def fit_evaluation(scaling: EvaluationScaling) -> EvaluationScaling:
    """Fill in the number of actors if the flags give none: one per CPU or GPU of a separate Ray, else UNASKED.

    Raises InputError for GPUs that a separate Ray does not have.
    """
    if not is_own():
        return replace(scaling, actors=scaling.actors or UNASKED)
    refuse_nodes("--scaling.nodes", scaling.nodes)
    have = resources()
    if scaling.gpu and not have.get("GPU"):
        raise InputError("--scaling.gpu: Ray finds no GPU on this machine; leave the flag out to evaluate on CPUs")
    room = have["GPU"] / scaling.num_gpus if scaling.gpu else have.get("CPU", 1.0) / max(scaling.num_cpus, 1.0)
    return replace(scaling, actors=scaling.actors or max(1, int(room)))


def resources() -> dict[str, float]:
    """Return the resources of the connected Ray: CPU, GPU, ..."""
    import ray

    return dict(ray.cluster_resources())
