"""The description of a training run, and the network that it starts or resumes with. Does not import Ray."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models import checkpoint as checkpoints
from models.fingerprints import trained_on
from models.networks import create
from models.networks.base import Network
from pipeline.data.config import DataConfig
from pipeline.training.config import ScalingConfig, TrainingConfig
from pipeline.training.record import Record

HISTORY, PICTURES, START = "history.jsonl", "pictures", "start"
"""In a run's folder; START: the checkpoint that `--network.pretrained` makes."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a worker needs to train; sent by cloudpickle from the driver to the workers, within the cluster."""

    network: str
    network_options: dict[str, Any]
    start_from: str | None
    data: DataConfig
    training: TrainingConfig
    scaling: ScalingConfig
    storage: str
    info: dict[str, Any]
    log: Callable[[int, dict[str, float]], None] | None = None
    """Called on rank 0 with (step, metrics)."""
    log_file: Callable[[Path], None] | None = None
    """Called on rank 0 with the file of each picture."""
    watch: Callable[[str], AbstractContextManager[None]] | None = None
    """Entered by each machine's first worker while it trains, with the machine's name ("" if there is only one)."""


def restore(job: Job, folder: Path | None) -> tuple[Network, Record]:
    """Load an interrupted run's network and record from `folder`; None: the weights that a new run starts from."""
    if folder is not None:
        network, description = checkpoints.load(folder, expected_network=job.network)
        return network, Record.read(folder, trained_on(description))
    torch.manual_seed(job.training.seed)
    if job.start_from is None:
        return create(job.network, **job.network_options), Record()
    network, description = checkpoints.load(job.start_from, expected_network=job.network, **job.network_options)
    return network, Record(fingerprints=trained_on(description))


def origin(start_from: str | None) -> dict[str, str]:
    """Describe the checkpoint that a run started from: its weights' SHA-256, and its licence if known."""
    if start_from is None:
        return {}
    description = checkpoints.describe(start_from)
    licence = description.get("info", {}).get("licence")
    return {"started_from": description["sha256"]} | ({"licence": licence} if licence else {})
