import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from models import checkpoint, published
from models.click_maps import collate_clicks
from models.errors import InputError
from models.interaction import Clicks
from models.networks import NETWORKS, create
from models.networks.base import Network, PromptNetwork
from tests.models.tiny import HW, TINY_NETWORKS, click_list, more, permuted, tiny_network, views

pytestmark = pytest.mark.networks

PUBLISHED = {
    "ritm_hrnet18s": 4_220_047,
    "ritm_hrnet18": 10_032_019,
    "ritm_hrnet32": 30_951_363,
    "simpleclick_vit_xtiny": 4_053_577,
    "simpleclick_vit_base": 98_025_513,
    "simpleclick_vit_large": 324_206_377,
    "simpleclick_vit_huge": 662_184_793,
    "emc_hrnet18s": 4_322_416,
    "emc_hrnet18": 10_239_828,
    "emc_hrnet32": 31_171_460,
    "emc_segformer_b0": 3_828_770,
    "emc_segformer_b3": 45_896_738,
    "focuscut_resnet50": 40_356_449,
    "focuscut_resnet101": 59_348_577,
    "icmformer_vit_base": 126_380_841,
    "icmformer_vit_large": 408_189_737,
    "icmformer_vit_huge": 819_617_113,
    "icmformer_swin_base": 121_459_833,
}
"""Parameters of the published files, including those that no forward uses."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_built_and_dead_parameters_add_up_to_the_published_count(name: str) -> None:
    with torch.device("meta"):
        network = create(name)
    built = sum(parameter.numel() for parameter in network.parameters())
    dead = published.family(network).dead(network.config)
    buffers = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index")
    unused = sum(math.prod(shape) for key, shape in dead.items() if not key.endswith(buffers))
    if "_vit_" in name:
        unused += network.config.dim  # the class token's position
    assert built + unused == PUBLISHED[name]


@pytest.mark.parametrize(("name", "correction"), [
    ("emc_hrnet18s", 102_401), ("emc_hrnet18", 207_841), ("emc_hrnet32", 220_129),
    ("emc_segformer_b0", 112_641), ("emc_segformer_b3", 244_705),
])  # fmt: skip
def test_the_light_half_has_its_published_count(name: str, correction: int) -> None:
    with torch.device("meta"):
        network = create(name)
    assert sum(parameter.numel() for parameter in network.get_submodule("refiner").parameters()) == correction


@pytest.fixture(scope="module", params=TINY_NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    return TINY_NETWORKS[request.param]()


def test_every_family_has_a_tiny_network() -> None:
    assert {type(build().config) for build in TINY_NETWORKS.values()} == {type(config) for config in NETWORKS.values()}


def test_forward_and_backward(network: Network) -> None:
    image, prev_mask = views(2, HW)
    rng = np.random.default_rng(0)
    clicks = collate_clicks([click_list(rng, 3, HW), click_list(rng, 1, HW)])
    network.train()
    loss = torch.zeros(())
    for output in (network(image, prev_mask, clicks, **more(network, 2)), network.focus_view(image, prev_mask, clicks)):
        for logits in (output.mask_logits, output.aux_logits, output.base_logits):
            if logits is not None:
                assert logits.shape == (2, 1, *HW)
                assert logits.dtype == torch.float32
                loss = loss + logits.square().mean()
        if output.candidates is not None and output.quality is not None:
            loss = loss + output.candidates.square().mean() + output.quality.square().mean()
    if isinstance(network, PromptNetwork):  # prompts that no training step uses: a box, without a previous mask
        boxes = torch.tensor([[10.0, 20, 90, 80], [0, 0, 50, 60]])
        logits, _ = network.prompt(network.start(image), HW, clicks, boxes=boxes)
        loss = loss + logits.square().mean()
    loss.backward()
    for name, parameter in network.named_parameters():
        if "pred_obj_score_head" in name:  # of the authors' files; no mask depends on it
            continue
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
        reordered = network(image, prev_mask, permuted(both, order)).mask_logits
        if isinstance(network, PromptNetwork):  # attention sums its tokens in their order
            torch.testing.assert_close(reordered, together, rtol=1e-4, atol=1e-4)
        else:
            assert torch.equal(reordered, together)
        for i in range(2):
            alone = network(image[i : i + 1], prev_mask[i : i + 1], collate_clicks(lists[i : i + 1])).mask_logits
            torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-4)


def test_image_prev_mask_and_clicks_matter_as_the_traits_say(network: Network) -> None:
    image, prev_mask = views(1, HW)
    clicks = collate_clicks([Clicks.of([(100, 100, True)])])
    with torch.inference_mode():
        base = network(image, prev_mask, clicks).mask_logits
        for other in (
            network(1 - image, prev_mask, clicks),
            network(image, prev_mask, collate_clicks([Clicks.none()])),
            network(image, prev_mask, collate_clicks([Clicks.of([(100, 100, False)])])),
        ):
            assert (other.mask_logits - base).abs().max() > 1e-5
        changed = network(image, 1 - prev_mask, clicks).mask_logits
        assert torch.equal(changed, base) == (network.traits.prev_mask == "unused")
        softer = network(image, 0.5 + 0.4 * (prev_mask - 0.5), clicks).mask_logits
        assert torch.equal(softer, base) == (network.traits.prev_mask in ("unused", "binary"))


def test_the_answer_has_the_size_of_the_view(network: Network) -> None:
    if isinstance(network.traits.size, tuple):
        pytest.skip("takes views of one size")
    hw = (97, 131) if network.traits.multiple == 1 else (24 * network.traits.multiple, 33 * network.traits.multiple)
    with torch.inference_mode():
        output = network(*views(1, hw), collate_clicks([Clicks.of([(10, 20, True)])]))
    assert output.mask_logits.shape == (1, 1, *hw)


def test_answers_repeat_and_survive_saving(network: Network, tmp_path: Path) -> None:
    image, prev_mask = views(2, HW)
    clicks = collate_clicks([click_list(np.random.default_rng(2), num, HW) for num in (2, 5)])
    loaded, description = checkpoint.load(checkpoint.save(network, tmp_path))
    assert description["network"] == network.name
    assert loaded.config == network.config
    with torch.inference_mode():
        first = network(image, prev_mask, clicks).mask_logits
        assert torch.equal(network(image, prev_mask, clicks).mask_logits, first)
        assert torch.equal(loaded(image, prev_mask, clicks).mask_logits, first)


def test_bfloat16_logits_stay_close(network: Network) -> None:
    network = copy.deepcopy(network)
    for module in network.modules():
        # With unit variance, random features of a few channels are noise that any rounding changes.
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
    image, prev_mask = views(1, HW)
    clicks = collate_clicks([click_list(np.random.default_rng(3), 3, HW)])
    with torch.inference_mode():
        exact = network(image, prev_mask, clicks).mask_logits
        with torch.autocast("cpu", torch.bfloat16):
            near = network(image, prev_mask, clicks).mask_logits.float()
    assert (near - exact).square().mean().sqrt() <= 0.05 * exact.std()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("label", ["simpleclick", "ritm"])
def test_the_compiled_network_answers_the_same(label: str) -> None:
    network = TINY_NETWORKS[label]()
    image, prev_mask = views(1, HW)
    clicks = collate_clicks([click_list(np.random.default_rng(3), 3, HW)])
    with torch.inference_mode():
        exact = network(image, prev_mask, clicks).mask_logits
        compiled = torch.compile(network)(image, prev_mask, clicks).mask_logits
    assert (compiled - exact).square().mean().sqrt() <= 1e-3 * exact.std()


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
    with pytest.raises(InputError, match="multiples of 224"):
        tiny_network(input_hw=(736, 736))


def test_a_view_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(192, 224\).*\(224, 224\)"):
        tiny_network()(*views(1, (192, 224)), collate_clicks([Clicks.none()]))


def test_json_lists_build_the_same_network() -> None:
    assert tiny_network(input_hw=[224, 448]).config == tiny_network(input_hw=(224, 448)).config
