"""What an output costs: the loss of the mask, and of what else a network shows of itself in training."""

from torch import Tensor

from models.losses import LOSSES, binary_cross_entropy
from models.networks.base import Output
from pipeline.training.config import TrainingConfig


def score(output: Output, target: Tensor, config: TrainingConfig) -> Tensor:
    """Mean loss of a batch: of the mask; of a split network's base, weight 1; of an aux head, `aux_weight`.

    The aux head has its own output's cross entropy (RITM); CFR-ICL's code scores the main output there (spec 4.3 e).
    """
    loss = mask_loss(output.mask_logits, target, config)
    if output.base_logits is not None:
        loss = loss + mask_loss(output.base_logits, target, config)
    if output.aux_logits is not None and config.aux_weight:
        loss = loss + config.aux_weight * binary_cross_entropy(output.aux_logits, target).mean()
    return loss


def mask_loss(logits: Tensor, target: Tensor, config: TrainingConfig) -> Tensor:
    """Mean of the run's loss over a batch; logits and target (b, 1, h, w)."""
    return LOSSES[config.loss](logits.float(), target).mean()
