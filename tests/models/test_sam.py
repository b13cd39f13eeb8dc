"""SAM's rules: the mask to show, logits fed back, padding, given masks, frames of another size."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from models.click_maps import ClickBatch, collate_clicks
from models.errors import InputError
from models.export import Sizes, graphs
from models.geometry import apply_size_rule
from models.interaction import Clicks
from models.networks import create
from models.networks.sam import CERTAIN, Sam, Sam2, is_first
from models.networks.sam_decoder import Masks
from models.networks.sam_prompts import PAD
from models.predictor import Predictor
from models.refinement.prompted import box_around, grown
from models.resampling import resize
from models.steps import Prompt
from tests.models.tiny import HW, TINY_NETWORKS, TINY_SAM, click_list, photo, views

pytestmark = pytest.mark.networks
NAMES = ("sam", "mobile_sam", "sam2")


def network_of(name: str) -> Sam:
    network = TINY_NETWORKS[name]()
    assert isinstance(network, Sam)
    return network


def clicks_of(num: int, seed: int = 0) -> ClickBatch:
    return collate_clicks([click_list(np.random.default_rng(seed), num, HW)])


@pytest.fixture(params=NAMES)
def network(request: pytest.FixtureRequest) -> Sam:
    return network_of(request.param)


def test_the_best_of_three_answers_one_click_and_mask_0_several(network: Sam) -> None:
    network.train()  # without SAM 2's look at stability
    for part in network.heavy_parts():
        part.eval()
    image = views(1, HW)[0]
    with torch.no_grad():
        started = network.start(image)
        masks, chosen = network.answer(started, HW, clicks_of(1))
        assert chosen.item() == masks.quality[0, 1:].argmax().item() + 1
        assert network.answer(started, HW, clicks_of(2))[1].item() == 0
        low = network.fed_back(masks.low_logits[:, :1])
        assert network.answer(started, HW, clicks_of(1), low)[1].item() == 0, "a fed mask is a prompt too"
        box = torch.tensor([[20.0, 30.0, 120.0, 140.0]])
        assert network.answer(started, HW, clicks_of(1), boxes=box)[1].item() == 0
        none = torch.full((1, 4), torch.nan)
        assert network.answer(started, HW, clicks_of(1), boxes=none)[1].item() == chosen.item()


@pytest.mark.parametrize(("stable", "shown"), [(True, 0), (False, 2)])
def test_sam_2_shows_mask_0_while_it_is_stable(stable: bool, shown: int) -> None:
    network = network_of("sam2")
    assert isinstance(network, Sam2)
    low_logits = torch.full((1, 4, 8, 8), -5.0)
    low_logits[0, 0, :4] = 5.0
    low_logits[0, 0, 4] = -5.0 if stable else 0.01  # between the two thresholds
    masks = Masks(low_logits, torch.tensor([[0.9, 0.1, 0.8, 0.3]]))
    several = torch.tensor([False])
    assert network.choose(masks, several).item() == shown
    network.train()
    assert network.choose(masks, several).item() == 0


def test_neighbours_in_a_batch_that_are_the_same_view_are_encoded_once(network: Sam) -> None:
    image = torch.cat([views(1, HW)[0], views(1, HW, seed=1)[0]])[[0, 0, 1, 0]]
    frames: list[int] = []
    network.image_encoder.register_forward_hook(lambda _, given, __: frames.append(len(given[0])))
    with torch.inference_mode():
        together = network.encode_once(image)
        apart = network.encode(network.framed(network.normalise(image)))
    assert frames == [3, 4]
    for ours, theirs in zip(together, apart, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_padding_token_changes_the_answer_but_padding_rows_do_not(network: Sam) -> None:
    image = views(1, HW)[0]
    with torch.inference_mode():
        started, prompts = network.start(image), network.prompts(HW, clicks_of(3))
        assert (prompts.labels == PAD).sum() == 1
        once = network.decode(started, prompts).low_logits
        more = prompts._replace(
            xy=torch.cat([prompts.xy, torch.zeros(1, 1, 2)], 1), labels=F.pad(prompts.labels, (0, 1), value=PAD),
            counts=F.pad(prompts.counts, (0, 1), value=True),
        )  # fmt: skip
        filled = more._replace(counts=F.pad(prompts.counts, (0, 1), value=False))
        spread = once.std()
        assert (network.decode(started, more).low_logits - once).abs().max() > 1e-3 * spread
        assert (network.decode(started, filled).low_logits - once).abs().max() < 5e-5 * spread


def test_lists_of_several_lengths_answer_in_a_batch_as_alone(network: Sam) -> None:
    rng = np.random.default_rng(0)
    lists = [click_list(rng, num, HW) for num in (1, 4, 2)]
    images = views(3, HW)[0]
    with torch.inference_mode():
        started = network.start(images)
        together, low = network.prompt(started, HW, collate_clicks(lists))
        for row, clicks in enumerate(lists):
            own = tuple(part[row : row + 1] for part in started)
            alone, alone_low = network.prompt(own, HW, collate_clicks([clicks]))
            assert (together[row] - alone[0]).abs().max() < 5e-5 * alone.std()
            assert (low[row] - alone_low[0]).abs().max() < 5e-5 * alone_low.std()


def test_order_of_clicks_changes_only_rounding(network: Sam) -> None:
    clicks = click_list(np.random.default_rng(1), 5, HW)
    turned = Clicks(clicks.yx[::-1].copy(), clicks.positive[::-1].copy())
    with torch.inference_mode():
        started = network.start(views(1, HW)[0])
        one, other = (network.prompt(started, HW, collate_clicks([each]))[0] for each in (clicks, turned))
    assert (one - other).abs().max() < 1e-4 * one.std()


def test_a_given_mask_goes_in_as_certain_logits_over_the_frame() -> None:
    network = network_of("sam")
    mask = torch.zeros(1, 1, 112, 224)
    mask[..., 28:84, 56:112] = 1
    low_logits, fed = network.mask_input(None, mask)
    assert low_logits is not None
    assert fed is not None
    assert fed.tolist() == [True]
    assert low_logits.shape == (1, 1, 56, 56)
    expected = torch.full((56, 56), -CERTAIN)
    expected[7:21, 14:28] = CERTAIN
    assert torch.allclose(low_logits[0, 0], expected, atol=1e-2)
    assert network.mask_input(None, torch.zeros_like(mask)) == (None, None)
    box = box_around(mask[0])
    assert box is not None
    assert box.tolist() == [56, 28, 111, 83]


@pytest.mark.parametrize("name", NAMES)
def test_given_mask_changes_the_first_answer_and_replays_equal(name: str) -> None:
    image, mask = photo((180, 240))
    predictor = Predictor(network_of(name), "sam")
    given, fresh = predictor.open(image, mask), predictor.open(image)
    first = given.click(90, 120)
    assert np.abs(first - fresh.click(90, 120)).max() > 0
    given.click(20, 30, positive=False)
    given.undo()
    given.click(20, 30, positive=False)
    again = predictor.open(image, mask)
    again.click(90, 120)
    assert np.array_equal(again.click(20, 30, positive=False), given.mask_prob), "a replay gives the same mask"


def test_the_box_of_a_given_mask_stays_and_grows_with_positive_clicks() -> None:
    box = torch.tensor([10.0, 20.0, 30.0, 40.0])
    clicks = Clicks.of([(35, 50, True), (5, 5, False), (22, 12, True)])
    assert grown(box, clicks).tolist() == [10, 20, 50, 40]
    assert grown(box, Clicks.none()).tolist() == box.tolist()
    image, mask = photo((180, 240))
    predictor = Predictor(network_of("sam"), "sam")
    asked: list[Prompt] = []
    answer = predictor.answer

    def noted(requests: list[Any]) -> list[Any]:
        asked.extend(request for request in requests if isinstance(request, Prompt))
        return answer(requests)

    predictor.answer = noted
    session = predictor.open(image, mask)
    session.click(90, 120)
    session.click(2, 3)
    (top, left), scale = np.argwhere(mask).min(0), 224 / 240
    for request, start in zip(asked, ((left, top), (3, 2)), strict=True):
        assert request.box is not None
        assert np.allclose(request.box[:2], np.array(start) * scale, atol=1.5)


def test_vit_resizes_weights_of_another_frame_size() -> None:
    small, large = (create("sam_vit_base", **{**TINY_SAM, "side": side}) for side in (160, 224))
    fitted = small.fit_state(large.state_dict())
    small.load_state_dict(fitted)
    assert {name for name in fitted if fitted[name].shape != large.state_dict()[name].shape} == {
        "image_encoder.pos_embed", "image_encoder.blocks.1.attn.rel_pos_h", "image_encoder.blocks.1.attn.rel_pos_w",
    }  # fmt: skip


def full_size(network: Sam, started: tuple[Tensor, ...], hw: tuple[int, int], clicks: Clicks) -> Tensor:
    """Return logits at the image's size, as in a session."""
    view_hw = apply_size_rule(network.traits.size, hw)
    scaled = Clicks(clicks.yx * np.array(view_hw) / np.array(hw), clicks.positive)
    logits, _ = network.prompt(started, view_hw, collate_clicks([scaled]))
    return resize(logits[0], hw, network.traits.resampling)


@pytest.mark.parametrize("hw", [(150, 97), (61, 240), (300, 300)])
def test_the_exported_decoder_answers_as_a_session_does(network: Sam, hw: tuple[int, int]) -> None:
    encoder, decoder = graphs(network)
    view_hw = apply_size_rule(network.traits.size, hw)
    clicks = click_list(np.random.default_rng(2), 3, hw)
    generator = torch.Generator().manual_seed(0)
    low_shape = (1, 1, network.config.side // 4, network.config.side // 4)
    frame = encoder.draw(Sizes(batch=1, clicks=1, hw=hw), generator)
    with torch.inference_mode():
        started = network.encode_frame(frame[0])
        expected = full_size(network, started, hw, clicks)
        inside = network.frame_hw(view_hw)
        xy = np.concatenate([(clicks.yx * np.array(inside) / np.array(hw))[:, ::-1], [[0, 0]]])
        labels = np.append(clicks.positive.astype(np.float32), PAD)
        masks, quality, low = decoder.module(
            *encoder.module(*frame), torch.from_numpy(xy[None].copy()).float(), torch.from_numpy(labels[None]).float(),
            torch.zeros(low_shape), torch.zeros(1), torch.tensor(hw, dtype=torch.float32),
        )  # fmt: skip
    assert masks.shape == (1, 1, *hw)
    assert quality.shape == (1, 1)
    assert low.shape == low_shape
    assert (masks[0] - expected).abs().max() < 1e-3 * expected.std()


def test_single_box_or_click_is_a_first_prompt() -> None:
    network = network_of("sam")
    nothing = replace(clicks_of(1), valid=torch.tensor([[False]]))
    box = torch.tensor([[1.0, 2.0, 30.0, 40.0]])
    assert is_first(network.prompts(HW, nothing, box), None).tolist() == [True]
    assert is_first(network.prompts(HW, clicks_of(1)), torch.tensor([True])).tolist() == [False]


@pytest.mark.parametrize(
    ("name", "side"), [("sam_vit_base", 500), ("mobile_sam", 16), ("mobile_sam", 0), ("sam2_hiera_tiny", 1008)]
)
def test_unsupported_side_is_refused(name: str, side: int) -> None:
    with torch.device("meta"), pytest.raises(InputError, match=f"side {side}: expected at least 64, a multiple of"):
        create(name, side=side)
