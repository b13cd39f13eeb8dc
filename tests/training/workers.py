"""Two real processes in one gloo group, and trainers in them."""

import os
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from models.networks.base import Network
from pipeline.training.config import TrainingConfig
from pipeline.training.loop import Trainer, prepare
from pipeline.training.parallel import Parallel, share

Job = Callable[[int, Path], None]


def _worker(rank: int, job: Job, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo"}
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    try:
        job(rank, folder)
    finally:
        dist.destroy_process_group()


def in_two_processes(job: Job, folder: Path) -> None:
    """Run `job(rank, folder)` in both processes; raises the error of either."""
    mp.spawn(_worker, args=(job, folder), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]


def still(network: Network) -> Network:
    """Remove the randomness from a network in training."""
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout2d | torch.nn.Dropout):
            module.p = 0.0
    return network


def trainer_of(kind: Parallel, rank: int, config: TrainingConfig, network: Network) -> Trainer:
    """Prepare and share a network as the workers of a run do, and return its trainer."""
    prepare(still(network), config)
    return Trainer(network=network, module=share(network, kind), config=config, rank=rank)
