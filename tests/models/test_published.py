import os
import sys
import types
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models import published
from models.errors import InputError
from models.interaction import Clicks
from models.networks import NETWORKS, create
from models.published import pack_clicks
from tests.models.tiny import tiny_network

DEAD = ("backbone.cls_token", "backbone.fc_norm.weight", "backbone.head.bias", "head.up_conv1.0.weight")
OURS = ("emc_vit_", "icmformerpp_", "lite_")
PICKLED_IN = "isegm.model.modeling.transformer_helper.cross_entropy_loss"


def published_state(seed: int = 3) -> dict[str, Tensor]:
    """Return a state dict as in the authors' files, with a class token and other unused tensors."""
    state = {key: tensor.clone() for key, tensor in tiny_network(seed).state_dict().items()}
    position = state["backbone.pos_embed"]
    state["backbone.pos_embed"] = torch.cat([torch.full((1, 1, position.shape[2]), 9.0), position], 1)
    shapes = published.family(tiny_network()).dead(tiny_network().config)
    return {**state, **{key: torch.ones(shapes[key]) for key in DEAD}}


def test_load_fills_every_tensor_and_reports_the_dead_ones() -> None:
    network = tiny_network(0)
    report = published.load(network, published_state())
    wanted = tiny_network(3).state_dict()
    assert all(torch.equal(tensor, wanted[key]) for key, tensor in network.state_dict().items())
    assert report.num_loaded == len(wanted)
    assert report.num_dead == 4
    assert report.dead_parameters == 32 + 32 + 1000 + 16 * 8 * 2 * 2 + 32
    assert "backbone.head.weight" in report.missing_dead
    assert "backbone.cls_token" not in report.missing_dead
    assert report.sha256 == ""


def test_every_misfit_is_named_and_then_nothing_is_loaded() -> None:
    network = tiny_network(0)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    state = published_state()
    del state["neck.down_16.0.bias"]
    state["neck.down_64.0.bias"] = torch.zeros(1)
    state["head.conv_seg.bias"] = torch.zeros(2)
    with pytest.raises(InputError) as caught:
        published.load(network, state)
    lines = str(caught.value).splitlines()
    assert [line for line in lines if "1 tensors missing" in line and "neck.down_16.0.bias" in line]
    assert [line for line in lines if "1 tensors not used" in line and "neck.down_64.0.bias" in line]
    assert [line for line in lines if "head.conv_seg.bias: (2,) given, (1,) expected" in line]
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_an_unused_tensor_of_another_shape_is_named() -> None:
    state = published_state()
    state["backbone.head.bias"] = torch.ones(3)
    with pytest.raises(InputError, match=r"backbone\.head\.bias: \(3,\) given, \(1000,\) expected"):
        published.load(tiny_network(), state)


def test_a_long_list_of_misfits_is_cut_with_its_count() -> None:
    state = {key: tensor for key, tensor in published_state().items() if "neck" not in key}
    with pytest.raises(InputError, match=r"tensors missing: neck\.\S+, .* and \d+ more"):
        published.load(tiny_network(), state)


def test_weights_for_another_size_get_their_positions_resized() -> None:
    network = tiny_network(input_hw=(224, 448))
    published.load(network, published_state())
    assert network.state_dict()["backbone.pos_embed"].shape == (1, 14 * 28, 32)


@pytest.mark.parametrize("wrap", [lambda state: {"state_dict": state, "config": {"class": "x"}}, lambda state: state])
def test_a_file_loads_like_its_state_dict(tmp_path: Path, wrap) -> None:
    path = tmp_path / "weights.pth"
    torch.save(wrap(published_state()), path)
    network = tiny_network(0)
    report = published.load(network, path)
    assert torch.equal(network.state_dict()["backbone.pos_embed"], published_state()["backbone.pos_embed"][:, 1:])
    assert len(report.sha256) == 64


def test_pickled_loss_of_published_configs_becomes_inert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = PICKLED_IN.split(".")
    names = [".".join(parts[: end + 1]) for end in range(len(parts))]
    with monkeypatch.context() as patch:
        for name in names:
            patch.setitem(sys.modules, name, types.ModuleType(name))
        module = sys.modules[PICKLED_IN]

        def cross_entropy() -> None:
            raise AssertionError("ran")

        class CrossEntropyLoss(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.criterion, self.weights = cross_entropy, {"a"}

        for thing in (cross_entropy, CrossEntropyLoss):
            thing.__module__, thing.__qualname__ = PICKLED_IN, thing.__name__
            setattr(module, thing.__name__, thing)
        config = {"params": {"head_params": {"value": OrderedDict(loss_decode=CrossEntropyLoss())}}}
        torch.save({"state_dict": published_state(), "config": config}, tmp_path / "simpleclick.pth")

    report = published.load(tiny_network(), tmp_path / "simpleclick.pth")
    assert report.num_dead == 4
    assert not [name for name in sys.modules if name == "isegm" or name.startswith("isegm.")]


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


@pytest.mark.check(19)
@pytest.mark.parametrize("place", ["state_dict", "config"])
def test_code_in_a_pickle_is_refused_and_never_runs(tmp_path: Path, place: str) -> None:
    canary, path = tmp_path / "canary", tmp_path / "evil.pth"
    torch.save({"state_dict": published_state(), "config": {}, place: Evil(canary)}, path)
    with pytest.raises(InputError, match=r"evil\.pth cannot be read"):
        published.load(tiny_network(), path)
    assert not canary.exists()
    torch.load(path, weights_only=False)
    assert canary.exists(), "the canary itself is dead: this test would prove nothing"


@pytest.mark.parametrize("content", [b"", b"not a pickle", b"PK\x03\x04 torn"])
def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.pth cannot be read"):
        published.load(tiny_network(), tmp_path / "x.pth")


def test_a_git_lfs_pointer_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(InputError, match="git lfs pull"):
        published.load(tiny_network(), tmp_path / "x.pth")


@pytest.mark.parametrize("content", [[], {}, {"state_dict": {}}, {"state_dict": {"a": 3}}, 3])
def test_pickles_without_weights_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match="holds no weights"):
        published.load(tiny_network(), tmp_path / "x.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no checkpoint file at"):
        published.load(tiny_network(), tmp_path / "nowhere.pth")


def test_a_family_without_published_files_is_refused() -> None:
    network = tiny_network()
    network.name = "homemade_net"
    with pytest.raises(InputError, match="homemade_net"):
        published.load(network, published_state())


@pytest.mark.networks
def test_every_network_with_published_files_has_a_family() -> None:
    for name in NETWORKS:
        if name.startswith(OURS):
            continue
        with torch.device("meta"):
            assert name.startswith(published.family(create(name)).prefix)


def test_packed_rows() -> None:
    clicks = Clicks.of([(1, 2, False), (3, 4, True), (5, 6, False)])
    pad = [-1.0, -1, -1]
    assert pack_clicks(clicks).tolist() == [[[3, 4, 1], pad, [1, 2, 0], [5, 6, 2]]]
    assert pack_clicks(clicks, 1).tolist() == [[pad, [1, 2, 0]]]
    assert pack_clicks(Clicks.none()).tolist() == [[pad, pad]]
