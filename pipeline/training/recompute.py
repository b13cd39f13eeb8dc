"""Gradient checkpointing: a block's inner values are computed again in the backward pass instead of being kept."""

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from models.errors import InputError

_SUFFIXES = ("Block", "Layer")


def recompute_blocks(network: nn.Module) -> int:
    """Make the blocks of a network forget their inner values; returns how many blocks that are.

    Blocks with a batch norm keep them: computing one again would count its batch twice. Raises InputError for a
    network without any other block (HRNet).
    """
    blocks = [module for module in outermost_blocks(network) if not _has_batch_norm(module)]
    if not blocks:
        raise InputError(
            f"training.recompute: {type(network).__name__} has no block without batch norm, so nothing can be computed "
            "again: leave the flag out, or lower training.batch_size, or raise training.accumulate"
        )
    for block in blocks:
        block.forward = partial(_forward, block.forward)
    return len(blocks)


def _forward(forward: Any, *inputs: Any, **options: Any) -> Any:
    return checkpoint(forward, *inputs, use_reentrant=False, **options)


def outermost_blocks(module: nn.Module) -> list[nn.Module]:
    """List a network's blocks (classes named so) that lie in no other block."""
    found: list[nn.Module] = []
    for child in module.children():
        found += [child] if type(child).__name__.endswith(_SUFFIXES) else outermost_blocks(child)
    return found


def _has_batch_norm(module: nn.Module) -> bool:
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())
