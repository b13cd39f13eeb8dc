import pytest
import torch
from torch import Tensor

from models import published
from models.click_maps import collate_clicks
from models.errors import InputError
from models.interaction import Clicks
from models.networks import create
from models.networks.base import Network
from tests.models.tiny import HW, TINY, tiny_network, views

pytestmark = pytest.mark.networks

PUBLISHED = {
    "icmformer_vit_base": 126_380_841,
    "icmformer_vit_large": 408_189_737,
    "icmformer_vit_huge": 819_617_113,
}
PLAIN_VITS = ["simpleclick_vit_base", "icmformer_vit_base"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_built_and_dead_parameters_add_up_to_the_published_count(name: str) -> None:
    with torch.device("meta"):
        network = create(name)
    built = sum(parameter.numel() for parameter in network.parameters())
    dead = published.family(network).dead(network.config).values()
    class_position = network.config.dim
    assert built + class_position + sum(torch.Size(shape).numel() for shape in dead) == PUBLISHED[name]


def test_encoded_image_serves_many_clicks() -> None:
    network = tiny_network(name="icmformer_vit_base", depth=8)
    image, prev_mask = views(2, HW)
    lists = [collate_clicks([Clicks.of([(9 * k, 80, True)]), Clicks.none()]) for k in (1, 5)]
    with torch.inference_mode():
        encoded = network.encode_image(image)
        for clicks in lists:
            logits = network.segment(encoded, prev_mask, clicks).mask_logits
            assert torch.equal(logits, network(image, prev_mask, clicks).mask_logits)


def test_windows_hold_at_several_sizes() -> None:
    network = tiny_network(name="icmformer_vit_base", depth=8, input_hw=(224, 448))
    logits = network(*views(1, (224, 448)), collate_clicks([Clicks.of([(9, 80, True)])])).mask_logits
    assert logits.shape == (1, 1, 224, 448)
    with pytest.raises(InputError, match="multiples of 224"):
        tiny_network(name="icmformer_vit_base", depth=8, input_hw=(736, 736))


def vit_state(depth: int = 8, side: int = 8, patch: int = 16) -> dict[str, Tensor]:
    """Random tensors under the names of a timm ViT, with class token, final norm and classifier."""
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(7)
    model = VisionTransformer(
        img_size=side * patch, patch_size=patch, embed_dim=TINY["dim"], depth=depth, num_heads=2, num_classes=10
    )
    return {key: torch.randn_like(tensor) for key, tensor in model.state_dict().items()}


@pytest.mark.parametrize("name", PLAIN_VITS)
def test_a_backbone_starts_from_a_pretrained_vit(name: str) -> None:
    network, untouched = tiny_network(name=name, depth=8), tiny_network(name=name, depth=8).state_dict()
    state = vit_state()
    names = network.load_backbone(state)
    ours = network.state_dict()
    for key, tensor in ours.items():
        assert torch.equal(tensor, untouched[key]) == (key not in names), key
    assert torch.equal(ours["backbone.blocks.7.mlp.fc2.weight"], state["blocks.7.mlp.fc2.weight"])
    assert torch.equal(ours["backbone.patch_embed.proj.bias"], state["patch_embed.proj.bias"])
    assert {key for key in ours if key.startswith(("backbone.blocks.", "backbone.patch_embed."))} < set(names)


@pytest.mark.parametrize("name", PLAIN_VITS)
def test_pretrained_positions_lose_the_class_token_and_are_resized(name: str) -> None:
    network = tiny_network(name=name, depth=8)
    state = vit_state(side=14)
    network.load_backbone(state)
    assert torch.equal(network.get_parameter("backbone.pos_embed"), state["pos_embed"][:, 1:])
    small = vit_state(side=7)
    network.load_backbone(small)
    grid = small["pos_embed"][:, 1:].view(1, 7, 7, -1).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(grid, (14, 14), mode="bicubic", align_corners=False)
    assert torch.equal(network.get_parameter("backbone.pos_embed"), resized.permute(0, 2, 3, 1).flatten(1, 2))


def broken(network: Network, state: dict[str, Tensor], match: str) -> None:
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(InputError, match=match):
        network.load_backbone(state)  # pyright: ignore[reportCallIssue]
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", PLAIN_VITS)
def test_a_backbone_that_does_not_fit_is_refused_and_then_nothing_is_set(name: str) -> None:
    network = tiny_network(name=name, depth=8)
    broken(network, vit_state(depth=6), r"24 tensors missing: blocks\.6\.")
    broken(network, vit_state(patch=8), r"patch_embed\.proj\.weight: \(32, 3, 8, 8\) given, \(32, 3, 16, 16\) expected")
    broken(network, {}, "missing: .*pos_embed|missing")
