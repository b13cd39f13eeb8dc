import dataclasses

import numpy as np
import pytest
import torch

from models.click_maps import collate_clicks
from models.errors import InputError
from models.interaction import Clicks
from models.networks import NETWORKS, create
from models.networks.base import Network
from tests.models.tiny import HW, TINY_NETWORKS, click_list, more, permuted, tiny_network, views

PUBLISHED = {
    "simpleclick_vit_xtiny": 4_053_577,
    "simpleclick_vit_base": 98_025_513,
    "simpleclick_vit_large": 324_206_377,
    "simpleclick_vit_huge": 662_184_793,
}


def up_convolution(dim: int) -> int:
    """Parameters of one unused up-convolution: 2x2 transposed to half the channels, norm, 1x1, norm."""
    half = dim // 2
    return (4 * dim * half + half) + 2 * half + (half * half + half) + 2 * half


def dead_parameters(dim: int, head_dim: int) -> int:
    """Parameters of published plain-ViT files that no forward uses (spec 2.2), from their shapes."""
    class_token_and_its_position, norm, classes = 2 * dim, 2 * dim, 1000 * (dim + 1)
    return class_token_and_its_position + norm + classes + up_convolution(head_dim) + up_convolution(head_dim // 2)


@pytest.mark.parametrize("name", PUBLISHED)
def test_built_and_dead_parameters_add_up_to_the_published_count(name: str) -> None:
    with torch.device("meta"):
        network = create(name)
    built = sum(parameter.numel() for parameter in network.parameters())
    assert built + dead_parameters(network.config.dim, network.config.head_dim) == PUBLISHED[name]


@pytest.fixture(scope="module", params=TINY_NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    return TINY_NETWORKS[request.param]()


def test_every_family_is_under_contract() -> None:
    assert {type(build().config) for build in TINY_NETWORKS.values()} == {type(config) for config in NETWORKS.values()}


def test_forward_and_backward(network: Network) -> None:
    image, prev_mask = views(2, HW)
    rng = np.random.default_rng(0)
    clicks = collate_clicks([click_list(rng, 3, HW), click_list(rng, 1, HW)])
    network.train()
    logits = network(image, prev_mask, clicks, **more(network, 2)).mask_logits
    assert logits.shape == (2, 1, *HW)
    assert logits.dtype == torch.float32
    close_up = network.focus_view(image, prev_mask, clicks).mask_logits
    assert close_up.shape == logits.shape
    (logits.square().mean() + close_up.square().mean()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient: it is built for nothing"
        assert torch.isfinite(parameter.grad).all(), name
    network.zero_grad(set_to_none=True)
    network.eval()


def test_an_answer_depends_on_neither_padding_nor_row_order_nor_neighbours(network: Network) -> None:
    rng = np.random.default_rng(1)
    lists = [click_list(rng, 4, HW), click_list(rng, 9, HW)]
    image, prev_mask = views(2, HW)
    both = collate_clicks(lists)
    with torch.inference_mode():
        together = network(image, prev_mask, both).mask_logits
        order = torch.from_numpy(rng.permutation(both.yx.shape[1]))
        assert torch.equal(network(image, prev_mask, permuted(both, order)).mask_logits, together)
        for i in range(2):
            alone = network(image[i : i + 1], prev_mask[i : i + 1], collate_clicks(lists[i : i + 1])).mask_logits
            torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-4)


def test_image_prev_mask_and_clicks_all_matter(network: Network) -> None:
    image, prev_mask = views(1, HW)
    clicks = collate_clicks([Clicks.of([(100, 100, True)])])
    with torch.inference_mode():
        base = network(image, prev_mask, clicks).mask_logits
        for other in (
            network(1 - image, prev_mask, clicks),
            network(image, 1 - prev_mask, clicks),
            network(image, prev_mask, collate_clicks([Clicks.none()])),
            network(image, prev_mask, collate_clicks([Clicks.of([(100, 100, False)])])),
        ):
            assert (other.mask_logits - base).abs().max() > 1e-5


@pytest.mark.parametrize("name", list(NETWORKS))
def test_configs_are_frozen_values_that_name_their_network(name: str) -> None:
    config = NETWORKS[name]
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.dim = 1
    with torch.device("meta"):
        network = create(name)
    assert network.name == name
    assert network.config == config


def test_unknown_network_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'simpleclick_vit_base'"):
        create("simpleclick_vit_bse")


def test_unknown_override_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'input_hw'"):
        create("simpleclick_vit_base", input_wh=(448, 448))


@pytest.mark.parametrize("hw", [(230, 224), (224, 250)])
def test_an_input_size_that_is_no_multiple_of_the_patch_is_refused(hw: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="input_hw"):
        tiny_network(input_hw=hw)


def test_a_grid_that_does_not_divide_into_windows_is_refused() -> None:
    with pytest.raises(InputError, match="multiple of 224"):
        tiny_network(input_hw=(736, 736))


def test_a_view_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(192, 224\).*\(224, 224\)"):
        tiny_network()(*views(1, (192, 224)), collate_clicks([Clicks.none()]))


def test_json_lists_build_the_same_network() -> None:
    assert tiny_network(input_hw=[224, 448]).config == tiny_network(input_hw=(224, 448)).config
