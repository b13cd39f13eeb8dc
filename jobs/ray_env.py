"""Connect a job to Ray: to the cluster it was submitted to, or to one of its own on this machine."""

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import ray


@contextmanager
def connected(*, num_cpus: int | None = None, quiet: bool = True) -> Iterator[None]:
    """Keep a connection to Ray while the block runs.

    Inside `ray job submit`, or with RAY_ADDRESS set, it is that cluster; else a local one is started, reachable from
    this process alone: its token lives in the environment, so that none is written into the home folder.
    """
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    # Workers must know the ops' schemas before timm, and must not ask the network for updates.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    level = logging.ERROR if quiet else logging.INFO
    if address:
        ray.init(logging_level=level, log_to_driver=True)
    else:
        if "RAY_AUTH_MODE" not in os.environ and "RAY_AUTH_TOKEN" not in os.environ:
            os.environ["RAY_AUTH_MODE"] = "token"
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        ray.init(
            address="local",
            num_cpus=num_cpus,
            include_dashboard=False,
            logging_level=level,
            log_to_driver=True,
        )
    try:
        from ray import data

        data.DataContext.get_current().enable_progress_bars = False
        for name in ("ray.data", "ray.train", "ray.tune", "ray.serve"):
            logging.getLogger(name).setLevel(logging.WARNING if quiet else logging.INFO)
        yield
    finally:
        ray.shutdown()


def cluster_cpus() -> float:
    """CPUs of the connected cluster."""
    return float(ray.cluster_resources().get("CPU", 1))
