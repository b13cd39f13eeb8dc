"""EMC-Click: first click and corrections in one step, corrections on the features of the first.

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
    """Base, aux head and correction learn together (Du et al., CVPR 2023).

    m corrections without gradient on the features of the first click, m in 0..max_iterations with odds gamma^m, one m
    for the batch on all workers; then, with gradient, the base on the first click again and a correction with all
    clicks, from the last low-resolution logits (the fresh base's if m is 0).
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
    """The correction network learns on a base that stays as it is (ours): how emc_vit_huge comes to be.

    docs/PAPERS.md, EMC-Click: on a plain ViT.
    As `emc`, but the base runs once a step, without gradient, and only the correction is scored. Of a network that
    takes clicks as prompts (SAM), its light half learns.
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
    """Freeze nothing; raises InputError for a network that is not split."""
    if not isinstance(network, Emc):
        raise InputError(
            f"training.objective emc or correction_only with {network.name or type(network).__name__}: expected a "
            "network with a correction network (emc_*), or for correction_only one of the SAM family; the "
            "others learn with ritm or icl"
        )
    return ()


def base_of(network: Network) -> Sequence[nn.Module]:
    """Freeze all but the light half; raises InputError for a network that is not split."""
    if isinstance(network, PromptNetwork):
        return network.heavy_parts()
    split_network(network)
    return [part for name, part in network.named_children() if name != "refiner"]
