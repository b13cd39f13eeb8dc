"""EMC-Click's objectives: a step makes the first click and corrections on that click's features.

docs/PAPERS.md, EMC-Click: training.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import InputError
from models.networks.base import Network, PromptNetwork
from models.networks.emc import Emc
from pipeline.clicks.random_clicks import draw_count
from pipeline.clicks.training_clicks import next_clicks
from pipeline.training.batch import TrainingBatch
from pipeline.training.config import TrainingConfig
from pipeline.training.objectives.scoring import mask_loss, score
from pipeline.training.runner import Runner


def emc(
    network: Runner,
    batch: TrainingBatch,
    config: TrainingConfig,
    shared_rng: np.random.Generator,
    rng: np.random.Generator,
) -> tuple[int, Iterator[Tensor]]:
    """Train base, aux head and correction network together (Du et al., CVPR 2023).

    First, m corrections are made without gradient on the features of the first click; m is in 0..max_iterations with
    odds gamma^m, the same for the whole batch on all workers. Then, with gradient, the base runs again on the first
    click, and the correction gets all clicks and the last low-resolution logits (the base's, if m is 0).
    """
    num = draw_count(0, config.emc.max_iterations, config.emc.gamma, shared_rng)

    def terms() -> Iterator[Tensor]:
        nothing, clicks = torch.zeros_like(batch.target), batch.clicks
        low_logits: Tensor | None = None
        if num:
            with network.looking() as look:
                assert isinstance(look, Emc)
                encoded = look.encode(batch.image, nothing, clicks)
                low_logits = encoded.low_logits
                for _ in range(num):
                    logits, low_logits = look.correct(batch.image, encoded.features, low_logits, clicks)
                    clicks = next_clicks(clicks, torch.sigmoid(logits.float()), batch.target, rng, law="emc")
        yield score(network(batch.image, nothing, clicks, low_logits=low_logits), batch.target, config, batch.coarse)

    return 1, terms()


def correction_only(
    network: Runner,
    batch: TrainingBatch,
    config: TrainingConfig,
    shared_rng: np.random.Generator,
    rng: np.random.Generator,
) -> tuple[int, Iterator[Tensor]]:
    """Train the correction network on a frozen base (ours), as for emc_vit_huge.

    Works like `emc`, but the base runs once per step, without gradient, and only the correction is scored. In a network
    that takes clicks as prompts (SAM), the light half learns. See docs/PAPERS.md, EMC-Click: on a plain ViT.
    """
    num = draw_count(0, config.emc.max_iterations, config.emc.gamma, shared_rng)

    def prompted() -> Iterator[Tensor]:
        prev_mask, clicks = torch.zeros_like(batch.target), batch.clicks
        with network.looking() as look:
            carry: dict[str, Any] = {"started": look.start(batch.image)}
            for _ in range(num):
                output = look(batch.image, prev_mask, clicks, **carry)
                prev_mask, carry = torch.sigmoid(output.mask_logits.float()), output.carry
                clicks = next_clicks(clicks, prev_mask, batch.target, rng, law="emc")
        yield score(network(batch.image, prev_mask, clicks, **carry), batch.target, config, batch.coarse)

    def terms() -> Iterator[Tensor]:
        nothing, clicks = torch.zeros_like(batch.target), batch.clicks
        low_logits: Tensor | None = None
        with network.looking() as look:
            assert isinstance(look, Emc)
            base = look.run_base(batch.image, nothing, clicks)
            if num:
                features, low_logits = look.refiner.take(base.feature, batch.image), base.low_logits
                for _ in range(num):
                    logits, low_logits = look.correct(batch.image, features, low_logits, clicks)
                    clicks = next_clicks(clicks, torch.sigmoid(logits.float()), batch.target, rng, law="emc")
        output = network(batch.image, nothing, clicks, low_logits=low_logits, base=base)
        yield mask_loss(output.mask_logits, batch.target, config, batch.coarse)

    return 1, prompted() if isinstance(network.network, PromptNetwork) else terms()


def split_network(network: Network) -> Sequence[nn.Module]:
    """Return no parts to freeze; raises InputError for a network that is not split."""
    if not isinstance(network, Emc):
        raise InputError(
            f"training.objective emc or correction_only with {network.name or type(network).__name__}: expected a "
            "network with a correction network (emc_*), or for correction_only one of SAM's family; use ritm or icl "
            "for other networks"
        )
    return ()


def base_of(network: Network) -> Sequence[nn.Module]:
    """Return everything except the light half; raises InputError for a network that is not split."""
    if isinstance(network, PromptNetwork):
        return network.heavy_parts()
    split_network(network)
    return [part for name, part in network.named_children() if name != "refiner"]
