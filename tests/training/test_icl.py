from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.click_maps import ClickBatch, disk_maps
from models.losses import normalized_focal_loss
from models.networks.base import Network, Output
from pipeline.training.config import IclConfig, TrainingConfig
from pipeline.training.objectives import OBJECTIVES
from pipeline.training.runner import Runner
from tests.training.tiny import HW, batches

BETAS = (1.0, 2.0, 3.5)
CONFIG = TrainingConfig(icl=IclConfig(betas=BETAS))


class Spy(Network):
    """A linear network that records its inputs and outputs; `carry` is what it remembers."""

    def __init__(self, carry: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.carry = carry or {}
        self.conv = nn.Conv2d(6, 1, 3, padding=1)
        self.calls: list[dict[str, Any]] = []

    def forward(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch, **carried: Tensor) -> Output:
        logits = 4 * self.conv(torch.cat([image, prev_mask, disk_maps(clicks, HW)], 1))
        self.calls.append({"prev_mask": prev_mask, "clicks": clicks, "logits": logits, "grad": torch.is_grad_enabled()})
        self.calls[-1]["carried"] = set(carried)
        return Output(logits, carry=self.carry)


def rngs(shared: int = 0, own: int = 1) -> tuple[np.random.Generator, np.random.Generator]:
    return np.random.default_rng(shared), np.random.default_rng(own)


def played(
    objective: str, shared: int = 0, own: int = 1, config: TrainingConfig = CONFIG, **carry: Tensor
) -> tuple[Spy, int, list[Tensor]]:
    network, batch = Spy(carry), next(batches())
    num, terms = OBJECTIVES[objective].terms(Runner(network, network), batch, config, *rngs(shared, own))
    return network, num, list(terms)


def seed_with(num_terms: int) -> int:
    return next(s for s in range(100) if played("icl_code", s)[1] == num_terms)


def num_clicks(call: dict[str, Any]) -> list[int]:
    return call["clicks"].valid.sum(1).tolist()


def test_the_papers_form_scores_one_output_per_beta_but_not_the_first() -> None:
    network, num, terms = played("icl")
    target = next(batches()).target
    assert num == len(terms) == len(BETAS)
    assert len(network.calls) == len(BETAS) + 1
    assert [call["grad"] for call in network.calls] == [False, True, True, True]
    for beta, term, call in zip(BETAS, terms, network.calls[1:], strict=True):
        assert torch.equal(term, beta * normalized_focal_loss(call["logits"], target).mean())
        assert term.item() > 0


def test_half_of_the_steps_make_more_clicks_before_the_scored_ones() -> None:
    config = replace(CONFIG, icl=IclConfig(betas=BETAS, first_weight=0.5, more_clicks=3))
    numbers = []
    for shared in range(60):
        network, num, terms = played("icl", shared, config=config)
        more = len(network.calls) - len(BETAS) - 1
        numbers.append(more)
        # The first output is scored only in steps without extra corrections.
        assert num == len(terms) == len(BETAS) + (more == 0)
        assert [call["grad"] for call in network.calls] == [more == 0, *[False] * more, *[True] * len(BETAS)]
        assert num_clicks(network.calls[-1])[0] == 1 + more + len(BETAS)
    assert set(numbers) == {0, 1, 2, 3}
    assert 15 < numbers.count(0) < 45


def test_a_network_forgets_only_its_logits_with_the_given_probability() -> None:
    carry = {"low_logits": torch.zeros(1), "encoded": torch.zeros(1)}
    always = [call["carried"] for call in played("icl", **carry)[0].calls]
    assert always == [set(), *[{"low_logits", "encoded"}] * len(BETAS)]
    config = replace(CONFIG, icl=IclConfig(betas=BETAS, forget_prob=0.5))
    some = [call["carried"] for shared in range(30) for call in played("icl", shared, config=config, **carry)[0].calls]
    assert 25 < some.count({"encoded"}) < 65
    assert some.count({"encoded"}) + some.count({"low_logits", "encoded"}) == 30 * len(BETAS)


def test_the_codes_form_scores_the_first_output_too() -> None:
    network, num, terms = played("icl_code", seed_with(3))
    target = next(batches()).target
    assert num == len(terms) == len(network.calls) == 3
    assert network.calls[0]["grad"]
    assert not network.calls[0]["prev_mask"].any()
    for beta, term, call in zip(BETAS, terms, network.calls, strict=True):
        assert torch.equal(term, beta * normalized_focal_loss(call["logits"], target).mean())


@pytest.mark.parametrize("objective", ["icl", "icl_code"])
def test_each_output_is_the_next_ones_previous_mask_without_a_gradient(objective: str) -> None:
    network, _, _ = played(objective, seed_with(3))
    assert not network.calls[0]["prev_mask"].any()
    for before, after in zip(network.calls, network.calls[1:], strict=False):
        assert torch.equal(after["prev_mask"], torch.sigmoid(before["logits"].detach()))
        assert not after["prev_mask"].requires_grad


@pytest.mark.parametrize("objective", ["icl", "icl_code"])
def test_one_click_is_added_between_outputs(objective: str) -> None:
    network, _, _ = played(objective, seed_with(3))
    assert num_clicks(network.calls[0]) == [1] * 4
    for before, after in zip(network.calls, network.calls[1:], strict=False):
        assert num_clicks(after) == [n + 1 for n in num_clicks(before)]


def test_the_codes_form_draws_its_length_from_the_shared_rng() -> None:
    lengths = [played("icl_code", seed, own=seed)[1] for seed in range(30)]
    assert set(lengths) == {1, 2, 3}
    assert [played("icl_code", seed, own=99)[1] for seed in range(30)] == lengths


def test_clicks_follow_the_workers_own_rng() -> None:
    first, again, other = (played("icl", own=own)[0].calls[1]["clicks"].yx for own in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("objective", ["icl", "icl_code"])
def test_gradients_term_by_term_equal_those_of_the_sum(objective: str) -> None:
    gradients = []
    for at_once in (True, False):
        network, batch = Spy(), next(batches())
        _, terms = OBJECTIVES[objective].terms(Runner(network, network), batch, CONFIG, *rngs(seed_with(3)))
        if at_once:
            torch.stack(list(terms)).sum().backward()
        else:
            for term in terms:
                term.backward()
        assert network.conv.weight.grad is not None
        gradients.append(network.conv.weight.grad)
    assert gradients[0].abs().max() > 0
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-5, atol=1e-7)
