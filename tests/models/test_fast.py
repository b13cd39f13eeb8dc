"""Faster forms of networks' parts: the functions and gradients of the papers' forms, under the same names."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.click_maps import collate_clicks
from models.fast import COMMUTED, PREPARED, swap
from models.networks.base import Network
from tests.models.tiny import HW, TINY_NETWORKS, click_list, more, views

KINDS = ("simpleclick", "ritm", "emc hrnet", "emc segformer", "emc vit")
"""Networks with parts that have a faster form."""


def answered(network: Network) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Return the logits, and the gradients by name, of a forward in training mode."""
    image, prev_mask = (view.double() for view in views(2, HW))
    clicks = collate_clicks([click_list(np.random.default_rng(0), num, HW) for num in (1, 4)])
    torch.manual_seed(0)
    for part in network.train().modules():
        if isinstance(part, nn.Dropout | nn.Dropout2d) or type(part).__name__ == "DropPath":
            part.eval()
    output = network(image, prev_mask, clicks, **more(network, 2))
    logits = [part for part in (output.mask_logits, output.aux_logits, output.base_logits) if part is not None]
    sum(part.square().mean() for part in logits).backward()
    gradients = {name: part.grad for name, part in network.named_parameters() if part.grad is not None}
    return logits, gradients


@pytest.mark.networks
@pytest.mark.parametrize("kind", KINDS)
def test_a_faster_form_has_the_papers_answers_and_gradients(kind: str) -> None:
    paper = TINY_NETWORKS[kind]().double()
    fast = swap(copy.deepcopy(paper))
    assert {type(part) for part in fast.modules()} & set(COMMUTED.values())
    assert not {type(part) for part in fast.modules()} & set(COMMUTED)
    assert fast.state_dict().keys() == paper.state_dict().keys()
    (logits, gradients), (found, own) = answered(paper), answered(fast)
    for left, right in zip(logits, found, strict=True):
        assert (left - right).abs().max() <= 1e-9 * left.std()
    assert gradients.keys() == own.keys()
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        assert (gradient - own[name]).abs().max() <= 1e-8 * largest, name
    for name, buffer in paper.named_buffers():
        assert torch.allclose(buffer.double(), fast.get_buffer(name).double(), rtol=1e-9, atol=1e-9), name


def test_every_form_belongs_to_a_part_of_the_class_it_replaces() -> None:
    for part, form in PREPARED.items():
        assert issubclass(form, part)
        assert "__init__" not in vars(form), f"{form.__name__} would need more than its part has"


def test_forms_of_a_prepared_network_replace_those_of_training() -> None:
    one, other = (TINY_NETWORKS["ritm"]() for _ in range(2))
    swapped = swap(swap(one, COMMUTED), PREPARED)
    assert [type(part) for part in swapped.modules()] == [type(part) for part in swap(other, PREPARED).modules()]
