"""Shard a network over workers (FSDP2): which parts are sharded, and which calls gather them."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.export import register_dataclass

from models.networks.base import Encoded, Network, Output
from models.precision import Precision
from pipeline.training.recompute import has_batch_norm


def shard(network: Network, device: torch.device, precision: Precision) -> Network:
    """Shard each block that learns as one unit, and everything outside such blocks as another.

    Blocks are gathered one after another as they run. With bf16, blocks without batch norm are gathered and computed in
    bfloat16 and their gradients are reduced in float32; everything else stays float32 under autocast, as with DDP.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    half = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in network.blocks():
        if any(parameter.requires_grad for parameter in block.parameters()):
            in_half = precision == "bf16" and not has_batch_norm(block)
            fully_shard(block, mesh=mesh, mp_policy=half if in_half else MixedPrecisionPolicy())
    fully_shard(network, mesh=mesh)
    _hook_methods(network)
    _open_outputs()
    return network


@cache
def _open_outputs() -> None:
    """Register the forwards' return types with PyTorch, so that FSDP can hook the tensors in them."""
    for returned in (Output, Encoded):
        register_dataclass(returned)


def _hook_methods(network: Network) -> None:
    """Let each entry point gather the network's parts, unless an entry point that called it has done so already.

    FSDP's hook alone would free the parts when the inner of two nested calls ends, while the outer one needs them.
    """
    inside = [0]

    def guarded(plain: Callable[..., Any], hooked: Callable[..., Any]) -> Callable[..., Any]:
        def call(*inputs: Any, **options: Any) -> Any:
            inside[0] += 1
            try:
                return (hooked if inside[0] == 1 else plain)(*inputs, **options)
            finally:
                inside[0] -= 1

        return call

    for name in network.entry_points:
        plain = getattr(network, name)
        register_fsdp_forward_method(network, name)
        setattr(network, name, guarded(plain, getattr(network, name)))

    def enter(module: nn.Module, inputs: Any) -> None:
        inside[0] += 1

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        inside[0] -= 1

    network.register_forward_pre_hook(enter)
    network.register_forward_hook(leave, always_call=True)
