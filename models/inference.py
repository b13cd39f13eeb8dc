"""Prepare a network for inference: fold batch norms, use the channels-last layout and, optionally, bfloat16.

Outputs are unchanged up to float rounding (with `bf16`, bfloat16 rounding). A prepared network can no longer be trained
or saved.
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
"""Layers that gain from bfloat16; norms, positions and small vectors stay float32."""


def place(network: Network, device: torch.device | str) -> Network:
    """Move a network to a device in eval mode and return it."""
    return network.eval().to(device)


def prepare(network: Network, *, bf16: bool = False) -> Network:
    """Prepare a network for inference in place and return it.

    `bf16` stores the weights of matrix products in bfloat16 and computes in it, which is worth it on processors with
    such instructions (avx512_bf16, amx_bf16) and GPUs of compute capability 8 or higher.
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
    """Fold batch norms, and modules with `fold_into`, into the convolution before them, in place.

    Modules here and in timm define their parts in the order in which they run, so the part defined after a convolution
    (or the first part of that sequence) is the one that follows it.
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
