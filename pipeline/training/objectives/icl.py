"""Iterative click loss: each output of a chain of clicks is scored, later ones with a larger weight.

Sun et al., CFR-ICL, section 3.1; docs/PAPERS.md, CFR-ICL: iterative click loss (ICL).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.click_maps import ClickBatch
from models.networks.base import Output
from pipeline.clicks.training_clicks import next_clicks
from pipeline.training.batch import TrainingBatch
from pipeline.training.config import TrainingConfig
from pipeline.training.objectives.scoring import score
from pipeline.training.runner import Runner


def icl(
    network: Runner,
    batch: TrainingBatch,
    config: TrainingConfig,
    shared_rng: np.random.Generator,
    rng: np.random.Generator,
) -> tuple[int, Iterator[Tensor]]:
    """The paper's form of the loss, Eq. 1-3.

    A random set of clicks gives Y0, which is not scored unless `first_weight` is set (ours). Then one click at a time
    is placed where the last output is wrong, and each output Y1, Y2, ... is scored with its beta. No gradient flows
    through the previous mask.
    """
    more = int(shared_rng.integers(1, config.icl.more_clicks + 1)) if config.icl.more_clicks else 0
    more = more if more and shared_rng.random() < 0.5 else 0
    first_weight = 0.0 if more else config.icl.first_weight

    once = network.encoded(batch.image)
    given = {} if once is None else {"encoded": once.lent}

    def remembered(output: Output) -> dict[str, Any]:
        forgets = config.icl.forget_prob > 0 and shared_rng.random() < config.icl.forget_prob
        kept = {name: value for name, value in output.carry.items() if not (forgets and name == "low_logits")}
        return kept | given

    def terms() -> Iterator[Tensor]:
        nothing, clicks = torch.zeros_like(batch.target), batch.clicks
        if first_weight:
            output = network(batch.image, nothing, clicks, **given)
            yield first_weight * score(output, batch.target, config, batch.coarse)
        else:
            with network.looking(evaluate=False) as look:
                output = look(batch.image, nothing, clicks, **given)
                for _ in range(more):
                    prev_mask = torch.sigmoid(output.mask_logits.float())
                    clicks = next_clicks(clicks, prev_mask, batch.target, rng, law="cfr")
                    output = look(batch.image, prev_mask, clicks, **remembered(output))
        for beta in config.icl.betas:
            prev_mask = torch.sigmoid(output.mask_logits.detach().float())
            clicks = next_clicks(clicks, prev_mask, batch.target, rng, law="cfr")
            output = network(batch.image, prev_mask, clicks, **remembered(output))
            yield beta * score(output, batch.target, config, batch.coarse)
        if once is not None:
            # The loop divides every term by `accumulate`; the gradients gathered here have been divided already.
            yield config.accumulate * once.term()

    return len(config.icl.betas) + (first_weight > 0) + (once is not None), terms()


def icl_code(
    network: Runner,
    batch: TrainingBatch,
    config: TrainingConfig,
    shared_rng: np.random.Generator,
    rng: np.random.Generator,
) -> tuple[int, Iterator[Tensor]]:
    """The public code's form of the loss: the output of the random clicks is scored too, and the sum stops at random.

    The number of scored outputs is uniform in 1..len(betas), the same for the whole batch on all workers.
    """
    num_terms = int(shared_rng.integers(1, len(config.icl.betas) + 1))

    def terms() -> Iterator[Tensor]:
        prev_mask = torch.zeros_like(batch.target)
        clicks: ClickBatch = batch.clicks
        carry: dict[str, Any] = {}
        for number, beta in enumerate(config.icl.betas[:num_terms], start=1):
            output = network(batch.image, prev_mask, clicks, **carry)
            yield beta * score(output, batch.target, config, batch.coarse)
            carry = output.carry
            prev_mask = torch.sigmoid(output.mask_logits.detach().float())
            if number < num_terms:
                clicks = next_clicks(clicks, prev_mask, batch.target, rng, law="cfr")

    return num_terms, terms()
