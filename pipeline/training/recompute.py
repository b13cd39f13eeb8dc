"""Gradient checkpointing: a block's activations are recomputed in the backward pass instead of being kept."""

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from models.errors import InputError
from models.networks.base import Network


def recompute_blocks(network: Network) -> int:
    """Let a network's blocks recompute their activations; returns the number of these blocks.

    Blocks with a batch norm keep their activations, because a second forward would count the batch twice. Raises
    InputError for a network that has no other blocks (HRNet).
    """
    blocks = [block for block in network.blocks() if not has_batch_norm(block)]
    if not blocks:
        raise InputError(
            f"training.recompute: {type(network).__name__} has no block without batch norm, so nothing can be "
            "recomputed: leave the flag out, lower training.batch_size or raise training.accumulate"
        )
    for block in blocks:
        block.forward = partial(_forward, block.forward)
    return len(blocks)


def _forward(forward: Any, *inputs: Any, **options: Any) -> Any:
    return checkpoint(forward, *inputs, use_reentrant=False, **options)


def has_batch_norm(block: nn.Module) -> bool:
    """Whether a block normalises over its batch."""
    return any(isinstance(part, nn.BatchNorm2d | nn.SyncBatchNorm) for part in block.modules())
