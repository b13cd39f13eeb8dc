"""Connect a job to Ray: to the cluster it was submitted to, or to a new one on this machine."""

import logging
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from models.errors import InputError
from models.short_folder import prepare_ray_tmpdir
from pipeline.data.sample import printable


@contextmanager
def connected(*, num_cpus: int | None = None) -> Iterator[None]:
    """Keep a connection to Ray while the block runs.

    Inside `ray job submit`, or with RAY_ADDRESS set, it is that cluster; else a local one is started, reachable from
    this process alone: its token lives in the environment, so that none is written into the home folder.
    MASKWRIGHT_VERBOSE=1 shows what Ray and its workers say.
    """
    for text in sys.argv:  # Ray keeps the command line, and takes UTF-8 alone
        if printable(text) != text:
            raise InputError(f"{printable(text)} is no UTF-8: rename the folder, or make a link to it whose name is")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    chosen = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    if not any(os.environ.get(name) for name in chosen):
        # Read once, when ray is first imported.
        os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"] = "token", secrets.token_hex(32)
    import ray
    from ray import data

    if ray.is_initialized():
        yield
        return
    verbose = bool(os.environ.get("MASKWRIGHT_VERBOSE"))
    level = logging.INFO if verbose else logging.ERROR
    if on_cluster():
        ray.init(logging_level=level, log_to_driver=verbose)
    else:
        prepare_ray_tmpdir()
        ray.init(
            address="local",
            num_cpus=num_cpus,
            logging_level=level,
            log_to_driver=verbose,
        )
    try:
        data.DataContext.get_current().enable_progress_bars = False
        for name in ("ray.data", "ray.train", "ray.tune", "ray.serve"):
            logging.getLogger(name).setLevel(logging.INFO if verbose else logging.WARNING)
        yield
    finally:
        ray.shutdown()


def on_cluster() -> bool:
    """Whether RAY_ADDRESS names a cluster, as it does inside a submitted job; else Ray is this process's own."""
    return bool(os.environ.get("RAY_ADDRESS"))


def fit_actors(wanted: int, num_cpus: float, num_pieces: int) -> tuple[int, float]:
    """Fit a pool into the connected Ray: its most actors (`wanted` 0: one per CPU), and what each reserves.

    Some CPU stays unreserved: a pool that holds all of them starves whatever else the work needs, without a word.
    """
    cpus = resources().get("CPU", 1.0)
    most = max(1, min(wanted or int(cpus / min(num_cpus, cpus)), num_pieces))
    return most, num_cpus if most * num_cpus <= cpus - 0.5 else round(min(num_cpus, (cpus - 0.5) / most), 2)


def resources() -> dict[str, float]:
    """What the connected Ray has: CPU, GPU, ..."""
    import ray

    return dict(ray.cluster_resources())
