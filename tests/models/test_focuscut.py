from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models import published
from models.click_maps import ClickBatch, collate_clicks
from models.errors import InputError
from models.geometry import apply_size_rule
from models.networks import create
from models.networks.base import Network
from models.networks.focuscut import FocusCut
from tests.models.tiny import TINY_NETWORKS, click_list, views

pytestmark = pytest.mark.networks

PUBLISHED = {"focuscut_resnet50": 40_356_449, "focuscut_resnet101": 59_348_577}
STEM = "backbone.layers.0.0.weight"


@pytest.fixture
def network() -> Network:
    return TINY_NETWORKS["focuscut"]()


def some_clicks(hw: tuple[int, int], batch: int = 1) -> ClickBatch:
    rng = np.random.default_rng(3)
    return collate_clicks([click_list(rng, 4, hw) for _ in range(batch)])


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name: str) -> None:
    with torch.device("meta"):
        network = create(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == PUBLISHED[name]
    with torch.device("meta"):
        apart = create(name, shared_weights=False)
    assert sum(parameter.numel() for parameter in apart.parameters()) == 2 * PUBLISHED[name]


@pytest.mark.parametrize("hw", [(1, 1), (5, 7), (33, 48), (64, 97), (131, 70)])
def test_any_size_goes_in_and_comes_out(network: Network, hw: tuple[int, int]) -> None:
    image, prev_mask = views(1, hw)
    with torch.inference_mode():
        logits = network(image, prev_mask, some_clicks(hw)).mask_logits
    assert logits.shape == (1, 1, *hw)
    assert torch.isfinite(logits).all()


def test_whole_images_get_a_short_side_of_384_and_the_long_one_cut_off(network: Network) -> None:
    assert apply_size_rule(network.traits.size, (321, 481)) == (384, 575)
    assert network.traits.zoom_size == network.traits.size
    assert network.traits.prev_mask == "binary"


def test_the_previous_mask_counts_above_a_half(network: Network) -> None:
    image, prev_mask = views(1, (64, 64))
    prev_mask[..., :8, :] = 0.5
    clicks = some_clicks((64, 64))
    with torch.inference_mode():
        logits = network(image, prev_mask, clicks).mask_logits
        assert torch.equal(network(image, (prev_mask > 0.5).float(), clicks).mask_logits, logits)
        assert not torch.equal(network(image, (prev_mask >= 0.5).float(), clicks).mask_logits, logits)


@pytest.mark.parametrize(("reference_size", "dilations"), [(384, [5, 9, 14]), (512, [6, 12, 18])])
def test_dilations(reference_size: int, dilations: list[int]) -> None:
    with torch.device("meta"):
        network = create("focuscut_resnet50", reference_size=reference_size)
    dilated: list[int] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.dilation != (1, 1):
            assert module.padding == module.dilation, name
            dilated.append(int(module.dilation[0]))
    assert dilated == [2, 4, 8, *dilations]


@pytest.mark.parametrize(("label", "same"), [("focuscut", True), ("focuscut apart", False)])
def test_views_share_one_network_unless_shared_weights_is_false(label: str, same: bool) -> None:
    network = TINY_NETWORKS[label]()
    image, prev_mask = views(1, (64, 64))
    clicks = some_clicks((64, 64))
    with torch.inference_mode():
        whole = network(image, prev_mask, clicks).mask_logits
        assert torch.equal(network.focus_view(image, prev_mask, clicks).mask_logits, whole) == same
        network.get_parameter("pred_decoder.pred_conv.0.bias").add_(1)
        moved = network.focus_view(image, prev_mask, clicks).mask_logits - whole
        assert torch.allclose(moved, torch.ones(())) == same


def test_published_files_fit_only_a_network_whose_views_share_their_weights() -> None:
    state = TINY_NETWORKS["focuscut"]().state_dict()
    report = published.load(TINY_NETWORKS["focuscut"](), state)
    assert (report.num_loaded, report.num_dead) == (len(state), 0)
    with pytest.raises(InputError, match=r"missing: focus\.backbone"):
        published.load(TINY_NETWORKS["focuscut apart"](), state)


def test_training_on_one_view_is_refused_with_a_reason(network: Network) -> None:
    with pytest.raises(InputError, match="batch has 1 view"):
        network.train()(*views(1, (64, 64)), some_clicks((64, 64)))
    assert network.eval()(*views(1, (64, 64)), some_clicks((64, 64))).mask_logits.shape == (1, 1, 64, 64)


def focuscut(**options: Any) -> FocusCut:
    network = create("focuscut_resnet50", **options).eval()
    assert isinstance(network, FocusCut)
    return network


@pytest.fixture(scope="module")
def classifier() -> Any:
    """Return a ResNet-50 with the statistics of a trained one."""
    from timm import create_model

    torch.manual_seed(5)
    resnet = create_model("resnet50", zero_init_last=False).eval()
    for name, buffer in resnet.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return resnet


@pytest.fixture(scope="module")
def resnet50() -> FocusCut:
    torch.manual_seed(0)
    return focuscut(head_dim=8, side_dim=8)


def test_load_backbone_copies_the_classifier(classifier: Any, resnet50: FocusCut) -> None:
    before = {name: tensor.clone() for name, tensor in resnet50.state_dict().items()}
    names = resnet50.load_backbone(classifier.state_dict())
    after = resnet50.state_dict()
    assert names == [name for name in after if name.startswith("backbone.")]
    assert torch.equal(after[STEM][:, :3], classifier.get_parameter("conv1.weight"))
    assert torch.equal(after[STEM][:, 3:], before[STEM][:, 3:])
    for name, tensor in classifier.layer4.state_dict().items():
        assert torch.equal(after[f"backbone.layers.4.{name}"], tensor), name
    assert all(torch.equal(after[name], before[name]) for name in after if name not in names)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        *_, theirs, _ = classifier.forward_intermediates(image, intermediates_only=True)
        x = torch.cat([image, torch.zeros_like(image)], 1)
        for stage in resnet50.backbone.layers[:4]:
            x = stage(x)
    torch.testing.assert_close(x, theirs, rtol=1e-4, atol=1e-4)


def without(state: dict[str, Tensor], *ends: str) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.endswith(ends)}


def test_load_backbone_accepts_files_without_batch_counts_and_classifier(classifier: Any, resnet50: FocusCut) -> None:
    names = resnet50.load_backbone(without(classifier.state_dict(), "num_batches_tracked", "fc.weight", "fc.bias"))
    assert set(names) == {
        name
        for name in resnet50.state_dict()
        if name.startswith("backbone.") and not name.endswith("num_batches_tracked")
    }


def test_weights_that_do_not_fit_are_named_and_nothing_is_loaded(classifier: Any, resnet50: FocusCut) -> None:
    before = {name: tensor.clone() for name, tensor in resnet50.state_dict().items()}
    state = without(classifier.state_dict(), "layer1.0.conv2.weight")
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    state["layer3.22.conv1.weight"] = torch.zeros(1)
    with pytest.raises(InputError) as caught:
        resnet50.load_backbone(state)
    message = str(caught.value)
    assert "1 tensors missing: layers.1.0.conv2.weight" in message
    assert "1 tensors not used: layers.3.22.conv1.weight" in message
    assert "layers.0.0.weight: (64, 1, 7, 7) given, (64, 3, 7, 7) expected" in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in resnet50.state_dict().items())


def test_load_backbone_copies_the_classifier_to_both_separate_networks(classifier: Any) -> None:
    network = focuscut(head_dim=8, side_dim=8, shared_weights=False)
    names = network.load_backbone(classifier.state_dict())
    state = network.state_dict()
    assert names == [name for name in state if name.startswith(("backbone.", "focus.backbone."))]
    assert torch.equal(state[STEM][:, :3], state[f"focus.{STEM}"][:, :3])
    assert not torch.equal(state[STEM][:, 3:], state[f"focus.{STEM}"][:, 3:])
