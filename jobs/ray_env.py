"""Connect a job to Ray: to the cluster that it is given or that `ray start` recorded here, else to a new one."""

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
"""Until a Ray that runs has answered."""
UNASKED = 8
"""Actors that a job asks a joined Ray for where its flags give no number."""


@contextmanager
def connected(given: str = "", *, num_cpus: int | None = None) -> Iterator[None]:
    """Keep a connection to Ray while the block runs; which one, `chosen` says. Raises InputError.

    A Ray that is started is reachable from this process alone: its token lives in the environment, so that none is
    written into the home folder. RAY_ADDRESS names the chosen Ray while the block runs: processes of a Ray that is
    started here have it too. MASKWRIGHT_VERBOSE=1 shows what Ray and its workers say. `num_cpus`: of a Ray that is
    started here.
    """
    for text in sys.argv:  # Ray keeps the command line, and takes UTF-8 alone
        if printable(text) != text:
            raise InputError(f"{printable(text)} is no UTF-8: rename the folder, or make a link to it whose name is")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    address, source = chosen(given)
    before = os.environ.get(ADDRESS)
    if address == LOCAL and not any(
        os.environ.get(name) for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    ):
        # Read once, when ray is first imported.
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
    """Address of the Ray to join, and what names it; LOCAL for one of this process alone.

    In this order: `given` (--ray), RAY_ADDRESS, which a submitted job has, and what `ray start` recorded on this
    machine. "auto" is that record too: any other Ray that happens to run here is left alone. Raises InputError.
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
            f"{named[1]} auto is {RECORD}, and it recorded nothing: give the address, or local for a separate Ray"
        )
    return LOCAL, ""


def _join(address: str, source: str, level: int, verbose: bool) -> None:
    """Connect to a Ray that runs, and say so."""
    import ray
    from ray.exceptions import AuthenticationError

    where = f"Ray at {address} ({source})"
    host, _, port = address.rpartition(":")
    if "://" not in address and port.isdigit():
        try:  # Ray itself would look for it for a minute
            socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
            _answers(address)
        except OSError as error:
            advice = "`ray stop` forgets what was recorded" if source == RECORD else "start it, or name another"
            raise InputError(
                f"no {where} answers ({error.strerror or error}): {advice}, or say --ray local for a separate Ray"
            ) from None
    if source == RECORD:
        os.environ.pop(ADDRESS, None)  # Ray then reads its record itself, and the token of this machine's user
    try:
        with nullcontext() if verbose else _no_warnings():
            ray.init(address=None if source == RECORD else address, logging_level=level, log_to_driver=verbose)
    except (AuthenticationError, ConnectionError, RuntimeError, ValueError) as error:
        if isinstance(error, AuthenticationError) or "InvalidAuthToken" in str(error.__cause__):
            raise InputError(
                f"{where} refuses the token of this process: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN, or "
                "RAY_AUTH_TOKEN_PATH, to the token that it was started with"
            ) from error
        raise InputError(f"{where} cannot be joined: {' '.join(str(error).split())}") from error
    os.environ[ADDRESS] = address
    print(f"joined {where}", flush=True)


def _answers(address: str) -> None:
    """Raise OSError where another program listens: Ray itself would wait for it for minutes."""
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
    """Drop what is written to standard error by whatever: while it connects, Ray's C++ warns once a second."""
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
    """Whether Ray is of this job alone, so that its machine is all there will be; asked in any process of it."""
    return os.environ.get(ADDRESS) == LOCAL


def fit_actors(wanted: int, num_cpus: float, num_pieces: int) -> tuple[int, float]:
    """Size a pool: its most actors, and what each reserves.

    A Ray that was joined is asked for what the flags say (`wanted` 0: UNASKED actors), whatever it has now: it may
    grow. One that is the job's own is shared out (0: an actor per CPU). There some CPU stays unreserved: a pool that
    holds all of them starves whatever else the work needs, without a word.
    """
    if not is_own():
        return max(1, min(wanted or UNASKED, num_pieces)), num_cpus
    cpus = resources().get("CPU", 1.0)
    most = max(1, min(wanted or int(cpus / min(num_cpus, cpus)), num_pieces))
    return most, num_cpus if most * num_cpus <= cpus - 0.5 else round(min(num_cpus, (cpus - 0.5) / most), 2)


def fit_evaluation(scaling: EvaluationScaling) -> EvaluationScaling:
    """Say how many actors evaluate where the flags do not: one per CPU or GPU of the job's own Ray, else UNASKED."""
    if not is_own():
        return replace(scaling, actors=scaling.actors or UNASKED)
    have = resources()
    if scaling.gpu and not have.get("GPU"):
        raise InputError("--scaling.gpu: Ray finds no GPU here; leave the flag out to evaluate on CPUs")
    room = have["GPU"] / scaling.num_gpus if scaling.gpu else have.get("CPU", 1.0) / max(scaling.num_cpus, 1.0)
    return replace(scaling, actors=scaling.actors or max(1, int(room)))


def resources() -> dict[str, float]:
    """What the job's own Ray has: CPU, GPU, ..."""
    import ray

    return dict(ray.cluster_resources())
