import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.click_maps import collate_clicks
from models.errors import InputError
from models.exemplar import ExemplarBatch
from models.geometry import Box
from models.interaction import Clicks
from models.networks import create
from models.networks.base import Network
from models.networks.exemplar_guide import mask_boxes, tap_responses
from models.networks.icmformerpp import ICMFormerPP, no_exemplar
from models.networks.stream_fusion import ChannelFusion
from tests.models.test_icmformer import vit_state
from tests.models.tiny import HW, click_list, example, permuted, tiny_network, views

pytestmark = pytest.mark.networks

ALONE: dict[str, Any] = {"cross_attention": False, "exemplar_module": False, "fusion": "none"}
ABLATIONS: dict[str, dict[str, Any]] = {
    "all": {},
    "one stream": {"two_stream": False, **ALONE},
    "two streams": ALONE,
    "cross-attention": {**ALONE, "cross_attention": True},
    "self-attention fusion": {"exemplar_module": False, "fusion": "self_attention"},
    "channel fusion without guide": {"exemplar_module": False},
    "guide without fusion": {"fusion": "none"},
    "masked image": {"exemplar_image": "masked"},
    "no mask": {"exemplar_mask": False, "exemplar_module": False},
    "no clicks": {"exemplar_positive": "none", "exemplar_negative": "none"},
    "first positive click": {"exemplar_positive": "first"},
    "no negative clicks": {"exemplar_negative": "none"},
    "pseudo negatives too": {"exemplar_negative": "pseudo_and_true"},
    "one scale": {"crop_scales": (1.0,)},
}


def tiny(**overrides: Any) -> ICMFormerPP:
    network = tiny_network(name="icmformerpp_vit_base", depth=8, **overrides)
    assert isinstance(network, ICMFormerPP)
    return network


def answer(network: Network, exemplar: ExemplarBatch | None, batch: int = 1) -> Tensor:
    clicks = collate_clicks([Clicks.of([(50, 60, True)])] * batch)
    with torch.inference_mode():
        return network(*views(batch, HW), clicks, exemplar).mask_logits


def paper_count(name: str) -> int:
    """Count parameters as the papers do, without positional embedding and group norms."""
    with torch.device("meta"):
        network = create(name)
    norms = sum(p.numel() for m in network.modules() if isinstance(m, nn.GroupNorm) for p in m.parameters())
    return sum(p.numel() for p in network.parameters()) - norms - network.get_parameter("backbone.pos_embed").numel()


def test_parameters_are_those_of_the_papers() -> None:
    assert round(paper_count("icmformer_vit_base") / 1e6, 2) == 124.81
    assert abs(paper_count("icmformerpp_vit_base") / 1e6 - 178.73) < 0.2
    with torch.device("meta"):
        assert sum(p.numel() for p in ChannelFusion(768).parameters()) == 2_959_104


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_ablation_trains_all_that_it_builds(ablation: str) -> None:
    network = tiny(**ABLATIONS[ablation]).train()
    clicks = collate_clicks([Clicks.of([(50, 60, True)]), Clicks.none()])
    logits = network(*views(2, HW), clicks, example(2, HW)).mask_logits
    logits.square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient: it is built for nothing"
        assert torch.isfinite(parameter.grad).all(), name


def changed(part: str, exemplar: ExemplarBatch) -> ExemplarBatch:
    """Return the exemplar with one part changed."""
    hw = (exemplar.mask.shape[2], exemplar.mask.shape[3])
    if part == "mask":
        return dataclasses.replace(exemplar, mask=exemplar.mask.roll(64, 2))
    clicks = getattr(exemplar, part.removeprefix("later_"))
    yx = (clicks.yx + 70) % hw[0]
    if part.startswith("later_"):
        yx = torch.where(clicks.first[..., None], clicks.yx, yx)
    return dataclasses.replace(exemplar, **{part.removeprefix("later_"): dataclasses.replace(clicks, yx=yx)})


SEES = {
    "all": "mask positive later_positive true_negative",
    "one stream": "mask positive later_positive true_negative",
    "two streams": "mask positive later_positive true_negative",
    "cross-attention": "mask positive later_positive true_negative",
    "masked image": "mask positive later_positive true_negative",
    "no mask": "positive later_positive true_negative",
    "no clicks": "mask",
    "first positive click": "mask positive true_negative",
    "no negative clicks": "mask positive later_positive",
    "pseudo negatives too": "mask positive later_positive true_negative pseudo_negative",
}


@pytest.mark.parametrize("ablation", SEES)
def test_network_sees_the_parts_of_the_exemplar_that_its_config_includes(ablation: str) -> None:
    network, exemplar = tiny(**ABLATIONS[ablation]), example(1, HW)
    base = answer(network, exemplar)
    parts = ["mask", "positive", "later_positive", "true_negative", "pseudo_negative"]
    seen = [part for part in parts if not torch.equal(answer(network, changed(part, exemplar)), base)]
    assert seen == SEES[ablation].split()


def test_the_masked_image_hides_the_rest_from_the_exemplar_stream() -> None:
    exemplar, (image, _) = example(1, HW), views(1, HW)
    other = torch.where(exemplar.mask > 0.5, image, 1 - image)
    for kind, same in (("masked", True), ("full", False)):
        network = tiny(exemplar_image=kind, exemplar_module=False)
        with torch.inference_mode():
            a, b = (network.encode_exemplar(i, network.encode_image(i), exemplar).tokens for i in (image, other))
        assert torch.equal(a, b) == same


@pytest.mark.parametrize(
    ("overrides", "advice"),
    [
        ({"two_stream": False}, "set cross_attention=False, fusion='none' and exemplar_module=False"),
        ({"cross_attention": False}, "set exemplar_module=False"),
        ({"exemplar_mask": False}, "set exemplar_module=False"),
    ],
)
def test_switches_that_contradict_each_other_are_refused(overrides: dict[str, Any], advice: str) -> None:
    with pytest.raises(InputError, match=f"(?i){advice}"):
        tiny(**overrides)


def test_unknown_switches_are_refused() -> None:
    with pytest.raises(
        InputError, match="fusion is 'chanel': expected channel, self_attention or none; did you mean 'channel'"
    ):
        tiny(fusion="chanel")
    with pytest.raises(InputError, match=r"exemplar_backbone is 'resnet19': expected .*; did you mean 'resnet18'"):
        tiny(exemplar_backbone="resnet19")


def test_no_exemplar_equals_an_empty_exemplar() -> None:
    network = tiny()
    image, _ = views(1, HW)
    assert torch.equal(answer(network, None), answer(network, no_exemplar(image)))
    assert not torch.equal(answer(network, None), answer(network, example(1, HW)))


def test_an_exemplar_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(1, 1, 112, 224\): expected \(1, 1, 224, 224\)"):
        answer(tiny(), example(1, (112, 224)))


def test_exemplars_of_a_batch_do_not_mix() -> None:
    network = tiny()
    whole = example(3, HW)
    whole.mask[1] = 0
    rows = [torch.tensor([row]) for row in range(3)]
    image, prev_mask = views(3, HW)
    clicks = collate_clicks([click_list(np.random.default_rng(0), 2, HW)] * 3)

    def part(batch: Any, row: Tensor) -> Any:
        return type(batch)(*(getattr(batch, field.name)[row] for field in dataclasses.fields(batch)))

    with torch.inference_mode():
        together = network(image, prev_mask, clicks, whole).mask_logits
        for row in rows:
            clicks_of = (part(c, row) for c in (whole.positive, whole.true_negative, whole.pseudo_negative))
            exemplar = ExemplarBatch(whole.mask[row], *clicks_of)
            alone = network(image[row], prev_mask[row], part(clicks, row), exemplar).mask_logits
            torch.testing.assert_close(alone, together[row], rtol=1e-4, atol=1e-4)
        order = torch.tensor([2, 0, 1])
        other = dataclasses.replace(whole, positive=permuted(whole.positive, order))
        assert torch.equal(network(image, prev_mask, clicks, other).mask_logits, together)


def test_encoded_image_and_exemplar_serve_many_clicks() -> None:
    network, exemplar = tiny(), example(2, HW)
    image, prev_mask = views(2, HW)
    with torch.inference_mode():
        encoded = network.encode_image(image)
        of_exemplar = network.encode_exemplar(image, encoded, exemplar)
        for y in (5, 50):
            clicks = collate_clicks([Clicks.of([(y, 80, True)]), Clicks.none()])
            logits = network.segment(encoded, of_exemplar, prev_mask, clicks).mask_logits
            assert torch.equal(logits, network(image, prev_mask, clicks, exemplar).mask_logits)


@pytest.mark.parametrize("kernel", [(1, 1), (4, 4), (3, 2), (9, 8)])
def test_responses_of_the_taps_add_up_to_a_convolution(kernel: tuple[int, int]) -> None:
    torch.manual_seed(0)
    features, kernels = torch.randn(2, 5, 7, 6), torch.randn(2, 3, 5, *kernel)
    responses = tap_responses(features, kernels)
    assert responses.shape == (2, 3, kernel[0] * kernel[1], 7, 6)
    for row in range(2):
        (top, left), (bottom, right) = ([(k - 1) // 2 for k in kernel], [k // 2 for k in kernel])
        padded = F.pad(features[row : row + 1], (left, right, top, bottom))
        expected = F.conv2d(padded, kernels[row])[0]
        torch.testing.assert_close(responses[row].sum(1), expected, rtol=1e-4, atol=1e-4)


def test_boxes_of_masks() -> None:
    mask = torch.zeros(3, 1, 9, 11)
    mask[0, 0, 2:5, 3] = mask[0, 0, 4, 3:8] = 1
    mask[2] = 1
    assert mask_boxes(mask) == [Box(2, 4, 3, 7), None, Box(0, 8, 0, 10)]


@pytest.mark.parametrize("crop_size", [64, 320])
def test_crops_of_any_size_give_a_guide(crop_size: int) -> None:
    network, image = tiny(crop_size=crop_size), views(1, HW)[0]
    with torch.inference_mode():
        guide = network.encode_exemplar(image, network.encode_image(image), example(1, HW)).guide
    assert guide is not None
    assert guide.shape == (1, 14, 14, 32)
    assert guide.std() > 0.1


@pytest.mark.parametrize(("backbone", "channels"), [("resnet18", 512), ("resnet50", 2048), ("hrnet_w18", 1024)])
def test_guide_backbones_have_expected_channels(backbone: str, channels: int) -> None:
    with torch.device("meta"):
        assert tiny_guide_channels(backbone) == channels


def tiny_guide_channels(backbone: str) -> int:
    return create("icmformerpp_vit_base", exemplar_backbone=backbone).get_parameter("guide.proj.weight").shape[1]


def test_a_pretrained_vit_starts_both_streams() -> None:
    network = tiny()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    state = vit_state()
    names = network.load_backbone(state)
    ours = network.state_dict()
    for number in range(4):
        for key in (
            f"backbone.blocks.{number + 4}.attn.qkv.weight",
            f"backbone.exemplar_blocks.{number}.attn.qkv.weight",
        ):
            assert torch.equal(ours[key], state[f"blocks.{number + 4}.attn.qkv.weight"])
            assert key in names
    for key, tensor in ours.items():
        assert torch.equal(tensor, before[key]) == (key not in names), key
    assert not [key for key in names if key.startswith(("patch_embed_", "backbone.cross_blocks", "guide", "fusion"))]


def test_the_guides_cnn_starts_from_pretrained_weights() -> None:
    import timm

    network, cnn = tiny(), timm.create_model("resnet18", pretrained=False)
    names = network.load_exemplar_backbone(cnn.state_dict())
    assert "guide.backbone.layer4.1.bn2.running_var" in names
    assert torch.equal(network.get_parameter("guide.backbone.conv1.weight"), cnn.get_parameter("conv1.weight"))
    with pytest.raises(InputError, match=r"missing: bn1\.bias"):
        network.load_exemplar_backbone({})
    with pytest.raises(InputError, match="exemplar_module=False"):
        tiny(exemplar_module=False).load_exemplar_backbone({})
