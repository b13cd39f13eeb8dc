"""The published rules of training clicks, written like their code."""

import numpy as np
import torch
from torch import Tensor

from models.click_maps import ClickBatch
from pipeline.clicks.training_clicks import TRAINING_CLICKS, allowed_pixels, depths_5x5, error_labels, next_clicks


def admissible(mask_prob: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the pixels (bool, h, w) where the next click may fall, and its sign; no pixel if nothing is wrong.

    These are the deeper error's pixels that are more than half as deep as its deepest, by the 5x5 approximate distance
    transform of the public code.
    """
    labels = error_labels(torch.from_numpy(mask_prob)[None], torch.from_numpy(target)[None])
    allowed, positive = allowed_pixels(labels, depths_5x5(labels), TRAINING_CLICKS["cfr"], torch.zeros(1))
    return allowed[0].numpy(), bool(positive[0])


def add_clicks(
    clicks: ClickBatch, mask_prob: Tensor, target: Tensor, rng: np.random.Generator, *, number: int | None = None
) -> ClickBatch:
    """Add one click per sample: CFR-ICL's rule, or with a `number` RITM's, which may replace a random click."""
    return next_clicks(clicks, mask_prob, target, rng, law="cfr" if number is None else "ritm", number=number)
