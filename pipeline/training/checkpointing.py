"""Save and load what a run needs to resume: the network's checkpoint and the trainer's state. Does not import Ray.

With DDP, rank 0 writes everything. With FSDP, the weights are gathered on rank 0, and each worker writes its shard of
the trainer's state to a separate folder in the background (torch.distributed.checkpoint); together these folders are
the checkpoint.
"""

from collections.abc import Collection
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import torch.distributed as dist
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.fsdp import FSDPModule

from models import checkpoint as checkpoints
from models.errors import InputError
from models.files import whole_file
from pipeline.training.loop import RAW, Trainer

OPTIMIZER = "optimizer.safetensors"


def save_weights(trainer: Trainer, folder: Path, info: dict[str, Any], photos: Collection[int] = ()) -> None:
    """Write the network's checkpoint on rank 0, with the averaged weights if there are any.

    With FSDP all workers must call it. `photos`: fingerprints of the photos that the network was trained on.
    """
    network = trainer.network
    with trainer.averaged():
        state: dict[str, Tensor] | None = None
        if isinstance(network, FSDPModule):
            options = StateDictOptions(full_state_dict=True, cpu_offload=True)
            state = cast(dict[str, Tensor], get_model_state_dict(network, options=options))
        if not trainer.rank:
            checkpoints.save(network, folder, state=state, photos=photos, **info)


def save_state(trainer: Trainer, folder: Path) -> Future[Any] | None:
    """Write the trainer's state; returns a future if it is still being written."""
    if isinstance(trainer.network, FSDPModule):
        if trainer.writers is None:
            # A separate group: the writers' messages must not mix with the exchange of gradients.
            trainer.writers = dist.new_group(backend="gloo")
        return async_save(_sharded(trainer), checkpoint_id=folder, process_group=trainer.writers)  # pyright: ignore
    if not trainer.rank:
        with whole_file(folder / OPTIMIZER) as part:
            checkpoints.save_tensors(trainer.state_tensors(), part)
    return None


def load_state(trainer: Trainer, folder: Path, step: int) -> None:
    """Load what `save_state` wrote, on any number of workers; the network holds what `save_weights` wrote.

    Raises InputError if the state was written with the other kind of parallelism.
    """
    sharded = isinstance(trainer.network, FSDPModule)
    if (folder / OPTIMIZER).is_file() == sharded:
        kinds = ("ddp", "fsdp") if sharded else ("fsdp", "ddp")
        raise InputError(
            f"this run was started with --scaling.parallel {kinds[0]} and cannot be resumed with {kinds[1]}: give "
            f"--scaling.parallel {kinds[0]}, or start a new run with --network.start-from and this one's checkpoint"
        )
    if not sharded:
        trainer.load_state_tensors(load_file(folder / OPTIMIZER), step)
        return
    state = _sharded(trainer)
    load(state, checkpoint_id=folder)
    set_optimizer_state_dict(trainer.network, trainer.optimizer, state["optimizer"])
    if trainer.ema is not None:
        trainer.ema.load(state[RAW])
    trainer.step = step


def _sharded(trainer: Trainer) -> dict[str, Any]:
    state: dict[str, Any] = {"optimizer": get_optimizer_state_dict(trainer.network, trainer.optimizer)}
    if trainer.ema is not None:
        state[RAW] = {name: parameter.detach().clone() for name, parameter in trainer.ema.parameters.items()}
    return state
