"""A running average of the weights, which predicts better than the last step's weights (Polyak averaging)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """Averages of the parameters that learn; buffers (statistics of batch norms) are averages already."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.average = get_ema_multi_avg_fn(decay)
        self.parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self.averages = {name: p.detach().clone() for name, p in self.parameters.items()}

    def update(self) -> None:
        """Move the averages towards the parameters by 1 - decay."""
        self.average(list(self.averages.values()), list(self.parameters.values()), None)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages into the network while the block runs."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        """Use the network's current values as the averages, then load `weights` (by name) into its parameters."""
        for name, parameter in self.parameters.items():
            self.averages[name].copy_(parameter)
            parameter.copy_(weights[name])

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self.parameters.items():
            kept = parameter.detach().clone()
            parameter.copy_(self.averages[name])
            self.averages[name].copy_(kept)
