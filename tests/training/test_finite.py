"""Losses and gradients that are not finite never reach the weights: by an error, or by the fused kernel."""

import pytest
import torch

from pipeline.training.finite import FiniteGuard


def _optimizer(fused: bool) -> tuple[torch.nn.Parameter, torch.optim.Optimizer]:
    weight = torch.nn.Parameter(torch.ones(3))
    return weight, torch.optim.Adam([weight], lr=0.1, fused=fused)


def test_a_plain_optimiser_raises_before_the_update() -> None:
    _, optimizer = _optimizer(False)
    guard = FiniteGuard(optimizer)
    guard.admit(0, torch.tensor(1.0), torch.tensor(2.0))
    with pytest.raises(FloatingPointError, match="step 1"):
        guard.admit(1, torch.tensor(1.0), torch.tensor(float("inf")))


def test_a_fused_optimiser_refuses_updates_and_the_first_bad_step_is_reported() -> None:
    weight, optimizer = _optimizer(True)
    guard = FiniteGuard(optimizer)
    assert guard.deferred
    seen = []
    for step, loss in enumerate((1.0, float("nan"), float("inf"), 1.0)):
        weight.grad = torch.full((3,), loss)
        guard.admit(step, torch.tensor(loss), torch.tensor(loss))
        optimizer.step()
        seen.append(weight.detach().clone())
    assert not torch.equal(seen[0], torch.ones(3))
    assert torch.equal(seen[1], seen[0])
    assert torch.equal(seen[2], seen[0])
    assert torch.isfinite(seen[3]).all()
    assert not torch.equal(seen[3], seen[2])
    with pytest.raises(FloatingPointError, match=r"loss nan .* at step 1:"):
        guard.check()


def test_finite_steps_pass_the_check() -> None:
    _, optimizer = _optimizer(True)
    guard = FiniteGuard(optimizer)
    guard.check()
    guard.admit(0, torch.tensor(1.0), torch.tensor(1.0))
    guard.check()
