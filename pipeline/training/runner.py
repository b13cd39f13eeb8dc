"""How an objective reaches the network: with gradient as the workers share it, or for a look as it would answer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from models.click_maps import ClickBatch
from models.networks.base import Network, Output
from models.precision import Precision


class Runner:
    """A network in training. Called, it runs `module` (the network, or DDP around it) as the loop has set it.

    `step` is the step that training is at, `last` the mask logits of the last forward (b, 1, h, w), detached, `shown`
    the image and the clicks that it saw.
    """

    def __init__(self, network: Network, module: Callable[..., Any], precision: Precision = "fp32") -> None:
        self.network, self.module, self.precision = network, module, precision
        self.step = 0
        self.last: Tensor | None = None
        self.shown: tuple[Tensor, ClickBatch]

    def __call__(self, *inputs: Any, **options: Any) -> Output:
        """Run the forward of a training step, in the run's precision."""
        with self._autocast():
            output = self.module(*inputs, **options)
        self.shown = inputs[0], inputs[2]
        self.last = output.mask_logits.detach()
        return output

    @contextmanager
    def looking(self, evaluate: bool = True) -> Iterator[Network]:
        """Give the bare network without gradient; as it answers (`evaluate`), or in the modes it trains in.

        Clicks that depend on predictions are made on such looks. The modes of all its parts are restored.
        """
        modes = [(part, part.training) for part in self.network.modules()] if evaluate else []
        try:
            if evaluate:
                self.network.eval()
            with torch.no_grad(), self._autocast():
                yield self.network
        finally:
            for part, training in modes:
                part.training = training

    def _autocast(self) -> torch.autocast:
        device_type = next(self.network.parameters()).device.type
        return torch.autocast(device_type, torch.bfloat16, enabled=self.precision == "bf16")


def freeze(parts: Sequence[nn.Module]) -> None:
    """Stop parts of a network from learning; `rest` must follow every `network.train()`."""
    for part in parts:
        part.requires_grad_(False)


def rest(parts: Sequence[nn.Module]) -> None:
    """Let frozen parts answer as in evaluation: their batch norms and drop paths stand still too."""
    for part in parts:
        part.eval()
