"""Make a network ready to answer clicks and nothing else: batch norms folded, memory laid out for it, half precision.

The answers stay what they were, to float rounding; with `bf16` to bfloat16's. The price: the network can no longer be
trained or saved.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.fast import PREPARED, swap
from models.networks.base import Network

# isort: split
from timm.layers import BatchNormAct2d  # pyright: ignore[reportPrivateImportUsage]  (after models.networks)

HEAVY = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.MultiheadAttention)
"""What bfloat16 pays for; norms, positions and small vectors stay float32."""


def place(network: Network, device: torch.device | str) -> Network:
    """Move a network to where it is to answer, as it is; returns it."""
    return network.eval().to(device)


def prepare(network: Network, *, bf16: bool = False) -> Network:
    """Fold and lay out a network, in place, for inference; returns it.

    `bf16` keeps the weights of its matrix products in bfloat16 and runs them so: worth it where the processor has
    instructions for it (avx512_bf16, amx_bf16; a GPU from compute capability 8 on).
    """
    network.eval().requires_grad_(False)
    fold_batch_norms(network)
    swap(network, PREPARED)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if bf16:
        exact = {part for whole in network.float32_parts() for part in whole.modules()}
        for module in network.modules():
            if isinstance(module, HEAVY) and module not in exact:
                for parameter in module.parameters(recurse=False):
                    if parameter.ndim >= 2:
                        parameter.data = parameter.data.to(torch.bfloat16)
    network.prepared = "bf16" if bf16 else "fp32"
    return network


def fold_batch_norms(module: nn.Module) -> None:
    """Merge what follows convolutions into them, in place: batch norms, and what has `fold_into`.

    Modules name their parts in the order in which they run, ours as timm's: what is named after a convolution follows
    it, or the first of a sequence does.
    """
    for child in module.children():
        fold_batch_norms(child)
    owner: Any = module
    for (name, conv), (after, following) in pairwise(list(module.named_children())):
        if not isinstance(conv, nn.Conv2d):
            continue
        if isinstance(following, nn.Sequential) and len(following):
            owner, after, following = following, "0", following[0]
        else:
            owner = module
        norm: Any = following
        if isinstance(norm, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(conv, norm))
            setattr(owner, after, norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity())
        elif hasattr(norm, "fold_into"):
            norm.fold_into(conv)
            setattr(owner, after, nn.Identity())
