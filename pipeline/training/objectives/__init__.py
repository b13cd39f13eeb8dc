"""What a training step minimises. To add one: a file with a function, and a line in OBJECTIVES.

An objective returns how many loss terms the step has and an iterator that computes them one after another. The loop
back-propagates each term before it asks for the next, so that memory holds one forward's graph, however many terms.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from torch import Tensor

from models.networks.base import Output
from pipeline.training.batch import TrainingBatch
from pipeline.training.config import TrainingConfig
from pipeline.training.objectives.icl import icl, icl_code

Forward: TypeAlias = Callable[..., Output]
Objective: TypeAlias = Callable[
    [Forward, TrainingBatch, TrainingConfig, np.random.Generator, np.random.Generator],
    tuple[int, Iterator[Tensor]],
]
"""(network, batch, config, rng equal on all workers, rng of this worker) -> (number of terms, the terms)."""

OBJECTIVES: dict[str, Objective] = {"icl": icl, "icl_code": icl_code}
