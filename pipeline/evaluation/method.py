"""The method under evaluation: a refinement on a network, or a baseline."""

from dataclasses import dataclass, field

import torch

from models.refinement.state import Step
from models.steps import Answer


@dataclass(frozen=True, kw_only=True, eq=False)
class Method:
    """A method to evaluate: a step, the function that answers its requests, and the threshold of its masks."""

    name: str
    step: Step
    answer: Answer
    mask_threshold: float = 0.49
    takes_exemplar: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    max_batch: int = 1
    """Most views per forward; on a CPU batches save no time."""
