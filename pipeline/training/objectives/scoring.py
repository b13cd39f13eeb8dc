"""Losses of a network's output in training: of the mask, and of auxiliary outputs such as a predicted IoU."""

import torch
import torch.nn.functional as F
from torch import Tensor

from models.losses import LOSSES, binary_cross_entropy
from models.networks.base import Output
from pipeline.training.config import TrainingConfig


def score(output: Output, target: Tensor, config: TrainingConfig, coarse: Tensor | None = None) -> Tensor:
    """Return the mean loss of a batch: the mask's, a split network's base's (weight 1), an aux head's (`aux_weight`).

    The aux head is scored by the cross entropy of its output (RITM); CFR-ICL's code scores the main output there. A
    network that offers several masks is scored by `offered_loss`. `coarse` bool (b): samples whose borders
    `ignore_border` leaves out; None: all samples.
    """
    if output.candidates is not None:
        return offered_loss(output, target, config, coarse)
    loss = mask_loss(output.mask_logits, target, config, coarse)
    if output.base_logits is not None:
        loss = loss + mask_loss(output.base_logits, target, config, coarse)
    if output.aux_logits is not None and config.aux_weight:
        loss = loss + config.aux_weight * binary_cross_entropy(output.aux_logits, target).mean()
    return loss


def offered_loss(output: Output, target: Tensor, config: TrainingConfig, coarse: Tensor | None = None) -> Tensor:
    """Return the mean loss of a network that offers several masks: that of the best mask it may show.

    The squared error of the IoUs that it predicts for these masks is added with weight `quality_weight` (Kirillov et
    al. 2023, appendix A).
    """
    candidates, quality, offered = output.candidates, output.quality, output.offered
    assert candidates is not None
    assert quality is not None
    assert offered is not None
    scored = without_border(target, config.ignore_border, coarse)
    losses = torch.stack([LOSSES[config.loss](mask[:, None].float(), scored) for mask in candidates.unbind(1)], 1)
    loss = losses.masked_fill(~offered, torch.inf).amin(1)
    error = (quality.float() - mask_ious(candidates, target)).square()
    of_quality = (error * offered).sum(1) / offered.sum(1)
    return loss.mean() + config.quality_weight * of_quality.mean()


def without_border(target: Tensor, share: float, coarse: Tensor | None = None) -> Tensor:
    """Mark pixels near the border of a target (b, 1, h, w) as ignored (-1): nearer than `share` of its longer side.

    A thin or small target of which less than a quarter would be left is not changed, nor is one that is not `coarse`,
    bool (b).
    """
    reach = round(share * max(target.shape[2:]))
    if not reach or (coarse is not None and not bool(coarse.any())):
        return target
    target_pixels = target > 0.5
    near = target_pixels.float()
    inside = 1 - near
    for kernel, padding in (((2 * reach + 1, 1), (reach, 0)), ((1, 2 * reach + 1), (0, reach))):
        near = F.max_pool2d(near, kernel, 1, padding)
        inside = F.max_pool2d(inside, kernel, 1, padding)
    band = (near > 0) & (inside > 0)
    kept = (target_pixels & ~band).flatten(1).sum(1)
    thin = 4 * kept < target_pixels.flatten(1).sum(1)
    whole = thin if coarse is None else thin | ~coarse
    return target.masked_fill(band & ~whole[:, None, None, None], -1.0)


def mask_ious(logits: Tensor, target: Tensor) -> Tensor:
    """Return the IoU (b, k) of each mask, where its logits (b, k, h, w) are positive, with the target (b, 1, h, w)."""
    masks, wanted, valid = logits.detach() > 0, target > 0.5, target >= 0
    both = (masks & wanted & valid).flatten(2).sum(2)
    either = ((masks | wanted) & valid).flatten(2).sum(2)
    return both / either.clamp(min=1)


def mask_loss(logits: Tensor, target: Tensor, config: TrainingConfig, coarse: Tensor | None = None) -> Tensor:
    """Return the mean of the run's loss over a batch; logits and target are (b, 1, h, w)."""
    return LOSSES[config.loss](logits.float(), without_border(target, config.ignore_border, coarse)).mean()
