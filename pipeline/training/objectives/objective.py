"""The record of a training objective."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from torch import Tensor, nn

from models.networks.base import Network
from pipeline.training.batch import TrainingBatch
from pipeline.training.config import TrainingConfig
from pipeline.training.runner import Runner

Terms: TypeAlias = Callable[
    [Runner, TrainingBatch, TrainingConfig, np.random.Generator, np.random.Generator],
    tuple[int, Iterator[Tensor]],
]
"""(network, batch, config, rng that all workers share, this worker's rng) -> (number of terms, the terms)."""


def _none(network: Network) -> Sequence[nn.Module]:
    return ()


@dataclass(frozen=True)
class Objective:
    """The loss terms of a step, and the parts of a network that the objective freezes.

    `frozen` raises InputError for a network that the objective cannot train.
    """

    terms: Terms
    frozen: Callable[[Network], Sequence[nn.Module]] = _none
