"""Refuse updates that are not finite: in the optimiser's kernel if it can, otherwise by a check at each step."""

from typing import Any

import torch
from torch import Tensor


class FiniteGuard:
    """Keeps losses and gradients that are not finite from reaching the weights.

    A fused optimiser takes `found_inf`, a tensor on its device, and changes neither weights nor moments if it is 1. So
    no step waits for the device, and `check` reports the first bad step before anything is logged or saved. For any
    other optimiser, each step is checked at once, which costs nothing on a CPU.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer: Any = optimizer
        self.deferred = bool(optimizer.defaults.get("fused"))
        self._first: Tensor | None = None  # step, loss and norm of the first bad step; step -1: none

    def admit(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """Refuse the next update if the loss or the gradient norm is not finite.

        Raises FloatingPointError at once if the optimiser is not fused.
        """
        bad = ~(torch.isfinite(loss) & torch.isfinite(norm))
        if not self.deferred:
            if bad:
                raise _error(step, float(loss), float(norm))
            return
        self.optimizer.found_inf = bad.to(torch.float32)
        if self._first is None:
            self._first = torch.full((3,), -1.0, device=loss.device)
        now = torch.stack([torch.full_like(loss, step), loss, norm])
        self._first = torch.where(bad & (self._first[0] < 0), now, self._first)

    def check(self) -> None:
        """Raise FloatingPointError if any update has been refused."""
        if self._first is not None:
            step, loss, norm = self._first.tolist()
            if step >= 0:
                raise _error(int(step), loss, norm)


def _error(step: int, loss: float, norm: float) -> FloatingPointError:
    return FloatingPointError(
        f"loss {loss} and gradient norm {norm} at step {step}: lower training.optimizer.lr or set "
        "training.optimizer.max_grad_norm"
    )
