"""An objective's access to the network: forwards with gradient, shared by workers, or predictions without gradient."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from models.click_maps import ClickBatch
from models.networks.base import Network, Output, PromptNetwork, Started
from models.precision import Precision


class Runner:
    """A network in training. A call runs `module` (the network, or DDP around it) in the mode that the loop has set.

    `step` is the current training step, `last` the detached mask logits (b, 1, h, w) of the last forward, and `shown`
    the image and the clicks of that forward.
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

    def encoded(self, image: Tensor) -> "EncodedOnce | None":
        """Encode a step's views once for all its forwards if the encoder sees no click and learns; otherwise None.

        It is None also with several workers: they exchange gradients through the forward, so each forward encodes.
        """
        network = self.network
        if self.module is not network or not isinstance(network, PromptNetwork):
            return None
        if not any(parameter.requires_grad for part in network.heavy_parts() for parameter in part.parameters()):
            return None
        with self._autocast():
            return EncodedOnce(network.encode_once(image))

    @contextmanager
    def looking(self, evaluate: bool = True) -> Iterator[Network]:
        """Yield the bare network without gradient, in evaluation mode if `evaluate`, otherwise in training mode.

        Objectives use it for predictions on which to place clicks. The modes of all parts are restored.
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


class EncodedOnce:
    """The encoding of a step's views: all forwards add to its gradient, and one backward passes it to the encoder.

    The terms of a loss are back-propagated one after another, each through its forward; all of them share the encoder.
    """

    def __init__(self, made: Started) -> None:
        self.made = made
        self.lent = tuple(part.detach().requires_grad_(part.requires_grad) for part in made)

    def term(self) -> Tensor:
        """Return the step's last term: its value is 0, and its gradient is that of all terms before it."""
        pairs = [(made, lent.grad) for made, lent in zip(self.made, self.lent, strict=True) if lent.grad is not None]
        total = sum(((made.float() * grad.float()).sum() for made, grad in pairs), self.made[0].float().sum() * 0)
        return total - total.detach()


def freeze(parts: Sequence[nn.Module]) -> None:
    """Stop parts of a network from learning; `rest` must follow every `network.train()`."""
    for part in parts:
        part.requires_grad_(False)


def rest(parts: Sequence[nn.Module]) -> None:
    """Put frozen parts into evaluation mode, so that their batch norms and drop paths do not change either."""
    for part in parts:
        part.eval()
