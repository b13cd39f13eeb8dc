"""Losses and their gradients."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.losses import binary_cross_entropy, normalized_focal_loss
from tests.parity.cases import Case, Deviations, Kind

TOLERANCE = 1e-5


def _decimal(digits: str) -> float:
    return float(f"{digits[0]}.{digits[1:] or 0}")


def variant(name: str) -> tuple[Callable[..., Tensor], dict[str, Any]]:
    """Loss and settings of a published variant: nfl_a05_g2, nfl_nodetach, nfl_maxmult5, bce."""
    if name == "bce":
        return binary_cross_entropy, {}
    if name == "nfl_nodetach":
        return normalized_focal_loss, {"detach_normalizer": False}
    if match := re.fullmatch(r"nfl_maxmult(\d+)", name):
        return normalized_focal_loss, {"max_mult": float(match[1])}
    match = re.fullmatch(r"nfl_a(\d+)_g(\d+)", name)
    assert match is not None, f"no loss variant {name!r} is known"
    return normalized_focal_loss, {"alpha": _decimal(match[1]), "gamma": _decimal(match[2])}


def published_focal(logits: Tensor, target: Tensor, settings: dict[str, Any]) -> Tensor:
    """The published formula (docs/PAPERS.md, RITM: losses) in float64, where its rounding does no harm."""
    alpha, gamma = settings.get("alpha", 0.5), settings.get("gamma", 2.0)
    valid = target != -1
    soft = 1 - (target - torch.sigmoid(logits)).abs()
    hard = torch.sigmoid(torch.where(target > 0.5, logits, -logits))  # the same, but 1 - p loses digits near 0
    pt = torch.where(valid, torch.where((target == 0) | (target == 1), hard, soft), 1.0)
    focal = (1 - pt) ** gamma
    count = valid.sum((-2, -1), keepdim=True)
    normalizer = count / (focal.sum((-2, -1), keepdim=True) + 1e-12)
    if settings.get("detach_normalizer", True):
        normalizer = normalizer.detach()
    weight = focal * normalizer
    if "max_mult" in settings:
        weight = focal * normalizer.clamp(max=settings["max_mult"])
    weight = torch.where(target > 0.5, alpha, 1 - alpha) * weight
    loss = -weight * (pt + 1e-12).clamp(max=1).log() * valid
    return (loss.sum((-2, -1)) / (count.squeeze((-2, -1)) + 1e-12)).flatten(1).mean(1)


def _evaluate(loss: Callable[[Tensor], Tensor], logits: Tensor) -> tuple[Tensor, Tensor]:
    """Values per sample and the gradient of their mean."""
    logits = logits.clone().requires_grad_()
    values = loss(logits)
    values.mean().backward()
    assert logits.grad is not None
    return values.detach().double(), logits.grad.double()


def _off(ours: Any, theirs: Any) -> float:
    """Largest difference, relative to the largest expected value."""
    a, b = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    return float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-8))


def replay(case: Case) -> Deviations:
    logits, target = torch.from_numpy(case.array("logits")), torch.from_numpy(case.array("target"))
    worst: Deviations = {}
    for name, expected in case.record["values"].items():
        loss, settings = variant(name)
        values, gradient = _evaluate(lambda x: loss(x, target, **settings), logits)  # noqa: B023
        found = {
            "mean": _off(values.mean(), expected["mean_float64"]),
            "gradient norm": _off(gradient.norm(), expected["grad_norm_float64"]),
        }
        # Sample by sample the file has float32 only, which is rounding noise where it strays from its own float64.
        if _off(expected["mean"], expected["mean_float64"]) < 1e-6:
            found["per sample"] = _off(values, expected["per_sample"])
            if f"c{case.key}_grad_{name}" in case.arrays and not expected["grad_is_float32_artefact"]:
                found["gradient"] = _off(gradient, case.array(f"grad_{name}"))
        if loss is normalized_focal_loss:
            exact, exact_gradient = _evaluate(lambda x: published_focal(x, target.double(), settings), logits.double())  # noqa: B023
            assert _off(exact.mean(), expected["mean_float64"]) < 1e-7, "the formula above is not the published one"
            found["per sample, float64"] = _off(values, exact)
            found["gradient, float64"] = _off(gradient, exact_gradient)
        for quantity, value in found.items():
            assert value <= TOLERANCE, f"{name}: {quantity} is off by {value:.2e}"
            worst[quantity] = max(value, worst.get(quantity, 0.0))
    return worst


KIND = Kind(stem="losses.*", fields=frozenset({"max_abs_logit", "values"}), replay=replay)
