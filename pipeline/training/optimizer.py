"""The optimiser, its parameter groups, and the learning rate's schedule."""

import math
from typing import Any

import torch

from models.errors import InputError
from models.networks.base import Network
from pipeline.training.config import OptimizerConfig


def layerwise_groups(
    network: Network, base_lr: float, weight_decay: float, layer_decay: float, *, freeze_coords: bool = False
) -> list[dict[str, Any]]:
    """Group a network's parameters by depth: the nearer to the input, the smaller the learning rate.

    Layer i of n (`Network.layers`) has the rate base_lr * layer_decay^(n - 1 - i); parameters outside of layers have
    base_lr. In layers, 1-D tensors and positional embeddings have no weight decay. `freeze_coords` reproduces the
    public code, which leaves the clicks' embedding out of all groups and so never trains it (docs/PAPERS.md, RITM:
    recipes).
    """
    layers = network.layers()
    if not layers:
        raise InputError(
            f"optimizer.layer_decay with {network.name or type(network).__name__}: expected a network whose backbone "
            "is a sequence of layers (simpleclick_*, icmformer*_vit_*, emc_vit_*, sam_*, sam2_*, mobile_sam, lite_*)"
        )
    positions = set(network.positions())
    frozen = {p for part in network.click_embedding() for p in part.parameters()} if freeze_coords else set()
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad or parameter in frozen:
            continue
        lr, decay = base_lr, weight_decay
        layer = next((number for number, starts in enumerate(layers) if name.startswith(starts)), None)
        if layer is not None:
            lr = base_lr * layer_decay ** (len(layers) - 1 - layer)
            decay = 0.0 if parameter.ndim == 1 or parameter in positions else weight_decay
        group = groups.setdefault((lr, decay), {"params": [], "names": [], "lr": lr, "weight_decay": decay})
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def backbone_groups(network: Network, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Group the parameters that learn into the pre-trained backbone, with a reduced rate, and all others.

    Raises InputError for a network without such a backbone (`Network.pretrained_parts`).
    """
    part = config.backbone_factor
    if config.fresh_factor != 1:
        return fresh_groups(network, config)
    if part == 1:
        return [{"params": [p for p in network.parameters() if p.requires_grad], "lr": config.lr}]
    pretrained = {parameter for whole in network.pretrained_parts() for parameter in whole.parameters()}
    if not pretrained:
        raise InputError(
            f"optimizer.backbone_factor {part} with {network.name or type(network).__name__}: expected a network on "
            "HRNet or SegFormer (ritm_*, emc_hrnet*, emc_segformer_*); use optimizer.layer_decay for a plain ViT"
        )
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in learning if p not in pretrained], "lr": config.lr},
        {"params": [p for p in learning if p in pretrained], "lr": config.lr * part},
    ]
    return [group for group in groups if group["params"]]


def fresh_groups(network: Network, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Group the parameters that learn into those that start fresh (`Network.fresh`) and all others."""
    learning = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    fresh = [p for name, p in learning if name.startswith(tuple(network.fresh()))]
    if not fresh or config.backbone_factor != 1:
        raise InputError(
            f"optimizer.fresh_factor {config.fresh_factor}: expected a network with layers that its starting "
            "checkpoint does not have (lite_*), and no optimizer.backbone_factor"
        )
    known = [p for name, p in learning if not name.startswith(tuple(network.fresh()))]
    groups = [{"params": known, "lr": config.lr}, {"params": fresh, "lr": config.lr * config.fresh_factor}]
    return [group for group in groups if group["params"]]


def make_optimizer(network: Network, config: OptimizerConfig) -> torch.optim.Optimizer:
    """Make the optimiser: by default Adam with betas (.9, .999), eps 1e-8 and weight decay added to the gradient."""
    if config.layer_decay is not None:
        if config.backbone_factor != 1:
            raise InputError(
                "optimizer.layer_decay and optimizer.backbone_factor both set the backbone's rate: give only one"
            )
        freeze = config.layer_decay_public_bug
        groups = layerwise_groups(network, config.lr, config.weight_decay, config.layer_decay, freeze_coords=freeze)
        for group in groups:
            del group["names"]
    else:
        groups = backbone_groups(network, config)
    options: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.fused and next(network.parameters()).is_cuda:
        options["fused"] = True
    match config.name:
        case "adam":
            optimizer: torch.optim.Optimizer = torch.optim.Adam(groups, **options)
        case "adamw":
            optimizer = torch.optim.AdamW(groups, **options)
        case "sgd":
            optimizer = torch.optim.SGD(groups, momentum=0.9, **options)
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    return optimizer


def rate_factor(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """Return the factor on every group's rate at `step` (from 0): warm-up times schedule."""
    warmup = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    done = step / num_steps
    match config.schedule:
        case "constant":
            return warmup
        case "cosine":
            return warmup * max(0.01, 0.5 * (1 + math.cos(math.pi * done)))
        case "milestones":
            return warmup * 0.1 ** sum(done >= milestone for milestone in config.milestones)
        case "exponential":
            return warmup * config.final_factor**done


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to its base rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
