"""How several workers share a network: each with a whole one (DDP), or each with a part of every block (FSDP2)."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from models.networks.base import Network
from models.precision import Precision
from pipeline.training.recompute import outermost_blocks

Parallel: TypeAlias = Literal["ddp", "fsdp"]
METHODS = ("encode", "correct", "run_base", "encode_image", "encode_exemplar", "segment")
"""Beside `forward`, what objectives and networks call of a network from outside."""


def share(network: Network, kind: Parallel, precision: Precision = "fp32") -> nn.Module:
    """Wrap a network for the process group of the moment; without one, or alone in it, it stays as it is.

    The network is on its device and what is frozen is frozen. FSDP shards it in place and returns it; its blocks are
    gathered one after another as they run, in bfloat16 if that is the precision.
    """
    if not dist.is_initialized() or (dist.get_world_size() == 1 and kind == "ddp"):
        return network
    device = next(network.parameters()).device
    if kind == "ddp":
        # Not every objective reaches every parameter: an exemplar's guide, a ViT's class token.
        ids = [device] if device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=ids, find_unused_parameters=True)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    options: dict[str, Any] = {"mesh": mesh}
    if precision == "bf16":
        options["mp_policy"] = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in outermost_blocks(network):
        fully_shard(block, **options)
    fully_shard(network, **options)
    for method in METHODS:
        if hasattr(network, method):
            register_fsdp_forward_method(network, method)
    return network


@contextmanager
def exchanging(module: nn.Module, yes: bool) -> Iterator[None]:
    """Exchange gradients with the other workers in the backward passes of the block, or let them add up."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(yes)
        yield
    elif isinstance(module, DistributedDataParallel) and not yes:
        with module.no_sync():
            yield
    else:
        yield


def whole(tensor: Tensor) -> Tensor:
    """Gather a tensor that workers hold in parts; all of them must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
