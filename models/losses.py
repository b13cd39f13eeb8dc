"""Losses on mask logits. Targets are float: 1 object, 0 background, -1 ignored."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def normalized_focal_loss(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.5,
    gamma: float = 2.0,
    detach_normalizer: bool = True,
    max_mult: float = -1.0,
) -> Tensor:
    """Focal loss per sample, (b,), whose weights sum to the number of pixels (Sofiiuk et al., RITM).

    `logits` and `target` are (b, 1, h, w). The loss is computed from log-sigmoid, because the published float32 form
    differentiates log(p + 1e-12) with p rounded to 0 and yields gradients a thousand times too large
    (docs/PAPERS.md, RITM: losses). Targets between 0 and 1 are allowed: pt = 1 - |target - p|. A sample that is ignored
    everywhere has loss 0.
    """
    logits, target = logits.float(), target.float()
    valid = target != -1
    sign = torch.where(target > 0.5, 1.0, -1.0)
    soft = valid & (target > 0) & (target < 1)
    # 0 where the target is hard, so that the logarithm and its gradient stay finite there.
    soft_error = torch.where(soft, (target - torch.sigmoid(logits)).abs(), torch.zeros_like(logits))
    log_pt = torch.where(soft, torch.log1p(-soft_error), F.logsigmoid(sign * logits))
    log_pt = torch.where(valid, log_pt, torch.zeros_like(logits))
    weight = torch.where(target > 0.5, alpha, 1 - alpha)
    error = torch.where(soft, soft_error, torch.sigmoid(-sign * logits))
    focal = torch.where(valid, error**gamma, torch.zeros_like(logits))
    num_valid = valid.float().sum((-2, -1), keepdim=True)
    normalizer = num_valid / (focal.sum((-2, -1), keepdim=True) + 1e-12)
    if detach_normalizer:
        normalizer = normalizer.detach()
    if max_mult > 0:
        normalizer = normalizer.clamp(max=max_mult)
    # log(pt + 1e-12), with an exact derivative at any logit.
    log_pt = torch.logaddexp(log_pt, torch.full_like(log_pt, math.log(1e-12))).clamp(max=0.0)
    per_pixel = -weight * focal * normalizer * log_pt * valid
    return (per_pixel.sum((-2, -1)) / (num_valid.squeeze((-2, -1)) + 1e-12)).flatten(1).mean(1)


def binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy per sample (b,); ignored pixels add 0 but are counted in the mean, as in RITM."""
    valid = target != -1
    per_pixel = F.binary_cross_entropy_with_logits(logits.float(), target.clamp(min=0).float(), reduction="none")
    return (per_pixel * valid).flatten(1).mean(1)


LOSSES = {"nfl": normalized_focal_loss, "bce": binary_cross_entropy}
