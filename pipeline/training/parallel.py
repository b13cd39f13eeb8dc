"""Distribute a network over workers: a full copy on each (DDP), or a shard of every block (FSDP2)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from models.networks.base import Network
from models.precision import Precision
from pipeline.training.sharding import shard

Parallel: TypeAlias = Literal["ddp", "fsdp"]


def share(network: Network, kind: Parallel, precision: Precision = "fp32") -> nn.Module:
    """Wrap a network for the current process group; without a group, or with DDP for one worker, return it unchanged.

    The network must be on its device and its frozen parts frozen. FSDP shards it in place and returns it.
    """
    if not dist.is_initialized() or (dist.get_world_size() == 1 and kind == "ddp"):
        return network
    device = next(network.parameters()).device
    if kind == "fsdp":
        return shard(network, device, precision)
    # Buffers are shared once per step (`share_buffers`), not in each of its forwards. A search for unused parameters
    # walks through the graph of each forward, so it runs only if there may be some.
    return DistributedDataParallel(
        network,
        device_ids=[device] if device.type == "cuda" else None,
        broadcast_buffers=False,
        find_unused_parameters=may_leave_out(network),
    )


def may_leave_out(network: Network) -> bool:
    """Whether a step may leave some learning parameters without gradient; frozen parts must be frozen already."""
    return any(parameter.requires_grad for part in network.conditional() for parameter in part.parameters())


def synchronise_norms(network: Network) -> Network:
    """Let batch norms see the samples of all workers (EMC-Click, section 4.1), on GPUs only.

    Names of tensors do not change. Returns the network unchanged on a CPU or with one worker.
    """
    alone = not dist.is_initialized() or dist.get_world_size() == 1
    if alone or not next(network.parameters()).is_cuda:
        return network
    return with_synchronised_norms(network)


def with_synchronised_norms(network: Network) -> Network:
    """Replace each batch norm with torch's synchronised one, with the same parameters and statistics."""
    return cast(Network, nn.SyncBatchNorm.convert_sync_batchnorm(network))


def running_statistics(network: nn.Module) -> list[Tensor]:
    """Return the running means and variances of the batch norms, which each worker updates with its own samples."""
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d | nn.SyncBatchNorm)]
    return [s for norm in norms for s in (norm.running_mean, norm.running_var) if s is not None]


def share_buffers(buffers: list[Tensor]) -> None:
    """Copy rank 0's buffers to all workers: rank 0 writes the checkpoints, so a resumed run is the same."""
    if not buffers or not dist.is_initialized() or dist.get_world_size() == 1:
        return
    flat = torch.cat([buffer.flatten() for buffer in buffers])
    dist.broadcast(flat, src=0)
    for buffer, shared in zip(buffers, flat.split([buffer.numel() for buffer in buffers]), strict=True):
        buffer.copy_(shared.view_as(buffer))


@contextmanager
def exchanging(module: nn.Module, yes: bool) -> Iterator[None]:
    """In the block's backward passes, exchange gradients with the other workers (`yes`) or only add them up."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(yes)
        yield
    elif isinstance(module, DistributedDataParallel) and not yes:
        with module.no_sync():
            yield
    else:
        yield


def whole(tensor: Tensor) -> Tensor:
    """Gather a tensor that is sharded over workers; all of them must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
