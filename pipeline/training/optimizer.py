"""Adam, its parameter groups, and the learning rate as a function of the step."""

import math
from typing import Any

import torch
from torch import nn

from models.errors import InputError
from pipeline.training.config import OptimizerConfig


def layerwise_groups(
    network: nn.Module, base_lr: float, weight_decay: float, layer_decay: float, *, freeze_coords: bool = False
) -> list[dict[str, Any]]:
    """Group a plain-ViT network's parameters by depth: the nearer the input, the smaller the rate (spec 4.6).

    Rate: base_lr * layer_decay^(depth + 1 - id), id 0 for the embeddings, i + 1 for block i, depth + 1 for the rest of
    the backbone; neck, head and the clicks' embedding get the base rate. Weight decay spares 1-D tensors and the
    positional embedding of the backbone. `freeze_coords`: the public code forgets the clicks' embedding
    (patch_embed_coords) in this mode, which freezes it; ours trains it unless asked not to.
    """
    blocks = getattr(getattr(network, "backbone", None), "blocks", None)
    if blocks is None:
        raise InputError("optimizer.layer_decay: expected a network with a plain-ViT backbone (simpleclick_*)")
    depth = len(blocks)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad or (freeze_coords and name.startswith("patch_embed_coords.")):
            continue
        lr, decay = base_lr, weight_decay
        if name.startswith("backbone."):
            part = name.split(".")
            layer = (
                int(part[2]) + 1 if part[1] == "blocks" else 0 if part[1] in ("patch_embed", "pos_embed") else depth + 1
            )
            lr = base_lr * layer_decay ** (depth + 1 - layer)
            decay = 0.0 if parameter.ndim == 1 or part[1] == "pos_embed" else weight_decay
        group = groups.setdefault((lr, decay), {"params": [], "names": [], "lr": lr, "weight_decay": decay})
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def make_optimizer(network: nn.Module, config: OptimizerConfig) -> torch.optim.Adam:
    """Adam with betas (.9, .999), eps 1e-8 and weight decay inside the gradient, as in the papers."""
    if config.layer_decay is not None:
        groups = layerwise_groups(network, config.lr, config.weight_decay, config.layer_decay)
        for group in groups:
            del group["names"]
    else:
        groups = [{"params": [p for p in network.parameters() if p.requires_grad], "lr": config.lr}]
    optimizer = torch.optim.Adam(groups, lr=config.lr, weight_decay=config.weight_decay)
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    return optimizer


def rate_factor(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """Factor on every group's rate at `step` (from 0): warm-up times schedule."""
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    done = step / num_steps
    match config.schedule:
        case "constant":
            return warmup
        case "cosine":
            return warmup * max(0.01, 0.5 * (1 + math.cos(math.pi * done)))
        case "milestones":
            return warmup * 0.1 ** sum(done >= milestone for milestone in config.milestones)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to its base rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
