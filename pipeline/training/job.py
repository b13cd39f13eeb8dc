"""What a run of training is, wherever it runs, and the network that it begins or goes on with. No Ray here."""

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
    """All that a worker needs; travels by cloudpickle from the driver to the workers and stays inside the cluster."""

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
    """Called on rank 0 with each picture."""
    watch: Callable[[str], AbstractContextManager[None]] | None = None
    """Entered by the first worker of each machine while it trains, with the machine's name; "" where there is one."""


def restore(job: Job, folder: Path | None) -> tuple[Network, Record]:
    """Load what a run that stopped left in `folder`; None: the weights that it starts from."""
    if folder is not None:
        network, description = checkpoints.load(folder, expected_network=job.network)
        return network, Record.read(folder, trained_on(description))
    torch.manual_seed(job.training.seed)
    if job.start_from is None:
        return create(job.network, **job.network_options), Record()
    network, description = checkpoints.load(job.start_from, expected_network=job.network, **job.network_options)
    return network, Record(fingerprints=trained_on(description))


def origin(start_from: str | None) -> dict[str, str]:
    """What a fine-tuned checkpoint says of the one it started from: its weights' SHA-256, and its licence if known."""
    if start_from is None:
        return {}
    description = checkpoints.describe(start_from)
    licence = description.get("info", {}).get("licence")
    return {"started_from": description["sha256"]} | ({"licence": licence} if licence else {})
