"""Make a network ready to answer clicks and nothing else: batch norms folded, memory laid out for it, half precision.

The answers stay what they were, to float rounding; with `bf16` to bfloat16's. The price: the network can no longer be
trained or saved.
"""

from itertools import pairwise
from typing import Any

import torch
from timm.layers import BatchNormAct2d  # pyright: ignore[reportPrivateImportUsage]
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.fused_conv import fuse_convs
from models.networks.base import Network

NORM_AFTER = {
    "conv": ("bn", "norm"),
    "atrous_conv": ("bn",),
    "conv1": ("bn1",),
    "conv2": ("bn2",),
    "conv3": ("bn3",),
    "conv3x3_1": ("norm1",),
    "conv1x1": ("norm2",),
}
"""In modules of named parts: the batch norm that follows a convolution, if there is one of that name."""
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
    fuse_convs(network)
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if bf16:
        exact = {
            part
            for module in network.modules()
            for name in getattr(module, "FULL_PRECISION", ())
            for part in module.get_submodule(name).modules()
        }
        for module in network.modules():
            if isinstance(module, HEAVY) and module not in exact:
                for parameter in module.parameters(recurse=False):
                    if parameter.ndim >= 2:
                        parameter.data = parameter.data.to(torch.bfloat16)
    network.prepared = "bf16" if bf16 else "fp32"
    return network


def fold_batch_norms(module: nn.Module) -> None:
    """Merge batch norms into the convolutions before them, in place; what they were becomes an identity."""
    for child in module.children():
        fold_batch_norms(child)
    if isinstance(module, nn.Sequential):
        for number in range(len(module) - 1):
            _fold(module, number, module, number + 1)
            following: Any = module[number + 1]
            if isinstance(module[number], nn.Conv2d) and hasattr(following, "fold_into"):
                following.fold_into(module[number])
                module[number + 1] = nn.Identity()
        return
    parts = dict(module.named_children())
    for name, part in parts.items():
        for norm in NORM_AFTER.get(name, ()):
            if norm in parts and isinstance(part, nn.Conv2d):
                _fold(module, name, module, norm)
    # timm's blocks of convolutions: conv_dw, bn1, conv_pw, bn2, ... each norm with the activation after it.
    for (name, conv), (after, norm) in pairwise(module.named_children()):
        if not (name.startswith("conv") and after.startswith("bn")):
            continue
        if isinstance(conv, nn.Conv2d) and isinstance(norm, BatchNormAct2d):
            both: Any = norm
            setattr(module, name, fuse_conv_bn_eval(conv, both))
            setattr(module, after, both.act)


def _fold(conv_in: Any, conv_name: Any, norm_in: Any, norm_name: Any) -> None:
    conv = conv_in[conv_name] if isinstance(conv_name, int) else getattr(conv_in, conv_name)
    norm = norm_in[norm_name] if isinstance(norm_name, int) else getattr(norm_in, norm_name)
    if isinstance(norm, nn.Sequential) and len(norm) and isinstance(conv, nn.Conv2d):
        norm_in, norm_name, norm = norm, 0, norm[0]  # conv, then (norm, ReLU)
    if not (isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)) or isinstance(norm, BatchNormAct2d):
        return
    fused = fuse_conv_bn_eval(conv, norm)
    for owner, name, part in ((conv_in, conv_name, fused), (norm_in, norm_name, nn.Identity())):
        if isinstance(name, int):
            owner[name] = part
        else:
            setattr(owner, name, part)
