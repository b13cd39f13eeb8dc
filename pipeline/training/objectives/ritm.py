"""RITM's iterative training: clicks are placed where the network errs, and only the last output is scored."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.clicks.training_clicks import next_clicks
from pipeline.training.batch import TrainingBatch
from pipeline.training.config import TrainingConfig
from pipeline.training.objectives.scoring import score
from pipeline.training.runner import Runner


def ritm(
    network: Runner,
    batch: TrainingBatch,
    config: TrainingConfig,
    shared_rng: np.random.Generator,
    rng: np.random.Generator,
) -> tuple[int, Iterator[Tensor]]:
    """RITM's objective, which SimpleClick and iCMFormer share (docs/PAPERS.md, RITM: training).

    The number of clicks without gradient is uniform in 0..max_iterations, the same for the whole batch on all workers.
    For these clicks the network runs in evaluation mode.
    """
    num = int(shared_rng.integers(0, config.ritm.max_iterations + 1))

    def terms() -> Iterator[Tensor]:
        prev_mask, clicks = torch.zeros_like(batch.target), batch.clicks
        carry: dict[str, Any] = {}
        with network.looking() as look:
            for number in range(1, num + 1):
                output = look(batch.image, prev_mask, clicks, **carry)
                prev_mask, carry = torch.sigmoid(output.mask_logits.float()), output.carry
                clicks = next_clicks(clicks, prev_mask, batch.target, rng, law="ritm", number=number)
        yield score(network(batch.image, prev_mask, clicks, **carry), batch.target, config, batch.coarse)

    return 1, terms()
