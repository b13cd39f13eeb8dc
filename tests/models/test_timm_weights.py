"""Backbones of lite_* from timm's own weights, and from files of EfficientNet-PyTorch by the names of timm's."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.errors import InputError
from models.networks import create
from models.networks.lite import Lite, around, flat
from models.predictor import Predictor
from models.published.efficientnet import by_timm
from models.published.importing import import_backbone
from models.published.timm_weights import load_pretrained
from tests.hub import cached, offline_hub
from tests.models.tiny import TINY_NETWORKS, photo

# isort: split
import timm  # not before models.torchvision_ops

pytestmark = pytest.mark.networks
FINAL = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def lite(**options: object) -> Lite:
    network = create("lite_s", **options).eval()
    assert isinstance(network, Lite)
    return network


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "tiny_vit_5m_224"])
def test_the_backbone_has_timms_weights_and_the_checkpoint_their_name(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline_hub(tmp_path, monkeypatch)
    given, network = cached(tmp_path, backbone), lite(**around(backbone))
    other = {name: value.clone() for name, value in network.state_dict().items() if ".trunk." not in name}
    info = load_pretrained(network)
    trunk = network.image_encoder.trunk.state_dict()
    assert trunk
    for name, value in trunk.items():
        assert torch.equal(value, given[flat(name)]), name
    assert all(torch.equal(network.state_dict()[name], value) for name, value in other.items())
    known = timm.get_pretrained_cfg(backbone)
    assert known is not None
    assert info["source"] == {"timm": f"{backbone}.{known.tag}", "as": "backbone"}
    assert info["licence"] == known.license


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_byobnet"])
def test_without_internet_the_way_around_is_one_sentence(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline_hub(tmp_path, monkeypatch)
    network = lite(backbone=backbone)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(
        InputError, match=rf"--network lite_s --as backbone --backbone {backbone} --out START"
    ) as raised:
        load_pretrained(network)
    assert "\n" not in str(raised.value)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def by_the_authors(backbone: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Random weights by the names of EfficientNet-PyTorch, and those names by timm's."""
    timms = timm.create_model(backbone).state_dict()
    names = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
    blocks = list(dict.fromkeys(".".join(name.split(".")[:3]) for name in timms if name.startswith("blocks.")))
    for number, block in enumerate(blocks):
        first, theirs = f"{block}.conv_pwl.weight" not in timms, f"_blocks.{number}."
        if first:
            layers = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
        else:
            layers = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv"}
            layers |= {"bn2": "_bn1", "conv_pwl": "_project_conv", "bn3": "_bn2"}
        names |= {f"{block}.{ours}": f"{theirs}{name}" for ours, name in layers.items()}
    inside = [name for name in names if name.startswith("blocks.")]
    order = ["conv_stem", "bn1", *inside, "conv_head", "bn2", "classifier"]
    pairs = {f"{ours}.{part}": f"{names[ours]}.{part}" for ours in order for part in FINAL if f"{ours}.{part}" in timms}
    assert pairs.keys() == timms.keys()
    torch.manual_seed(3)
    state = {
        theirs: torch.rand_like(timms[ours]) if timms[ours].is_floating_point() else timms[ours]
        for ours, theirs in pairs.items()
    }
    return state, pairs


def test_names_of_efficientnet_pytorch_are_those_of_timm() -> None:
    for size in (0, 1, 2):
        state, pairs = by_the_authors(f"tf_efficientnet_lite{size}")
        found = by_timm(state, f"tf_efficientnet_lite{size}")
        assert found.keys() == pairs.keys()
        assert all(found[ours] is state[theirs] for ours, theirs in pairs.items())
    with pytest.raises(InputError, match=r"386 tensors, which do not match timm's tf_efficientnet_lite0 \(296\)"):
        by_timm(state, "tf_efficientnet_lite0")
    plain = timm.create_model("test_efficientnet").state_dict()
    assert by_timm(plain, "test_efficientnet") == plain


def test_a_file_of_efficientnet_pytorch_becomes_the_backbone(tmp_path: Path) -> None:
    state, pairs = by_the_authors("tf_efficientnet_lite1")
    torch.save(state, tmp_path / "lite1.pth")
    imported = import_backbone(tmp_path / "lite1.pth", "lite_s", seed=4, backbone="tf_efficientnet_lite1")
    network = imported.network
    assert (network.config.backbone, network.config.mean, imported.refinement) == (
        "tf_efficientnet_lite1", (0.5, 0.5, 0.5), "sam",
    )  # fmt: skip
    assert len(imported.started) == len(network.image_encoder.trunk.state_dict())
    for name in imported.started:
        assert torch.equal(network.state_dict()[name], state[pairs[name.removeprefix("image_encoder.trunk.")]])
    with pytest.raises(InputError, match="of another shape: blocks"):
        import_backbone(tmp_path / "lite1.pth", "lite_s", backbone="tf_efficientnet_lite2")
    with pytest.raises(InputError, match="use --backbone only for lite_"):
        import_backbone(tmp_path / "lite1.pth", "ritm_hrnet18s", backbone="x")


def test_a_backbone_sees_pixels_as_it_was_trained_on_them() -> None:
    image = torch.rand(1, 3, 32, 32)
    network = lite(**around("tf_efficientnet_lite0"))
    assert torch.equal(network.normalise(image), (image - 0.5) / 0.5)
    usual = TINY_NETWORKS["lite"]()
    assert torch.equal(usual.image_mean, TINY_NETWORKS["ritm"]().image_mean)
    session = Predictor(network).open(photo((60, 90))[0])
    assert session.click(30, 40).shape == (60, 90)
