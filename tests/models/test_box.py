"""Models by name, checkpoints in half precision, and the model that comes with Maskwright."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from models import box, checkpoint
from models.errors import InputError
from models.predictor import Predictor
from models.refinement import build, named
from tests.boxed import boxed
from tests.models.tiny import TINY_NETWORKS, photo, tiny_network

__all__ = ["boxed"]


def test_a_model_by_name_is_the_checkpoint_in_its_folder(boxed: Path, tmp_path: Path) -> None:
    for given in (box.DEFAULT, Path(box.DEFAULT), boxed):
        assert box.resolve(given) == boxed
        assert checkpoint.describe(given) == checkpoint.describe(boxed)
        assert checkpoint.load(given)[0].name == "simpleclick_vit_xtiny"
    copy = checkpoint.copy(box.DEFAULT, tmp_path / "copy")
    assert checkpoint.describe(copy) == checkpoint.describe(boxed)
    checkpoint.recommend(box.DEFAULT, {"flip": True})
    assert checkpoint.describe(boxed)["info"]["refinement"] == {"flip": True}


def test_unknown_model_is_refused_with_the_known_names(boxed: Path) -> None:
    checkpoint.copy(boxed, boxed.parent / "other")
    (boxed.parent / "__pycache__").mkdir()
    assert list(box.models()) == ["maskwright:lite_s", "maskwright:other"]
    for wrong in ("maskwright:lite", "maskwright:", "maskwright:../box/lite_s", "maskwright:__pycache__"):
        with pytest.raises(InputError, match=f"unknown model '{wrong}'.* known: maskwright:lite_s, maskwright:other"):
            checkpoint.describe(wrong)


def test_predictor_without_source_uses_the_default_model(boxed: Path) -> None:
    image, _ = photo((40, 50))
    masks = [
        Predictor(*source).open(image).click(20, 25) for source in ((), (box.DEFAULT,), (boxed,), (boxed, "zoom_in"))
    ]
    for mask in masks[1:]:
        np.testing.assert_array_equal(mask, masks[0])


@pytest.mark.networks
@pytest.mark.parametrize("name", TINY_NETWORKS)
def test_large_weights_are_halved_and_widened_when_read(name: str, tmp_path: Path) -> None:
    network = TINY_NETWORKS[name]()
    whole, parameters = network.state_dict(), dict(network.named_parameters())
    folder = checkpoint.save(network, tmp_path, state=checkpoint.in_half(network))
    stored = load_file(folder / checkpoint.WEIGHTS)
    for key, tensor in stored.items():
        halved = key in parameters and tensor.ndim > 1
        assert tensor.dtype is (torch.half if halved else whole[key].dtype), key
    assert {tensor.dtype for tensor in stored.values()} > {torch.half}
    read = checkpoint.load(folder)[0].state_dict()
    for key, tensor in whole.items():
        assert read[key].dtype is tensor.dtype, key
        assert torch.equal(read[key], stored[key].to(tensor.dtype)), key
        torch.testing.assert_close(read[key], tensor, rtol=1e-3, atol=1e-7)


def test_weights_in_half_are_resized_as_float32(tmp_path: Path) -> None:
    network = tiny_network()
    half = checkpoint.save(network, tmp_path / "half", state=checkpoint.in_half(network))
    widened = checkpoint.save(checkpoint.load(half)[0], tmp_path / "widened")
    found, expected = (checkpoint.load(folder, input_hw=(96, 160))[0].state_dict() for folder in (half, widened))
    assert all(torch.equal(found[key], tensor) for key, tensor in expected.items())


def test_weights_beyond_half_precision_are_refused() -> None:
    network = tiny_network()
    with torch.no_grad():
        network.get_parameter("head.conv_seg.weight").mul_(1e9)
    with pytest.raises(InputError, match=r"^head\.conv_seg\.weight has weights beyond 65504"):
        checkpoint.in_half(network)


SHIPPED = Path(box.__file__).parent / "lite_s"
SECTIONS = ("Use", "Training data", "Training", "Figures", "Limits", "Licence")


@pytest.mark.skipif(not (SHIPPED / checkpoint.WEIGHTS).is_file(), reason="the box is empty")
class TestShipped:
    def test_weights_are_small_and_match_the_stated_digests(self) -> None:
        content = (SHIPPED / checkpoint.WEIGHTS).read_bytes()
        assert len(content) <= 20_000_000
        digest = hashlib.sha256(content).hexdigest()
        assert json.loads((SHIPPED / checkpoint.DESCRIPTION).read_text())["sha256"] == digest
        assert digest in (SHIPPED / "README.md").read_text()

    def test_its_card_has_all_sections(self) -> None:
        card = (SHIPPED / "README.md").read_text()
        assert [title for title in re.findall(r"^## (.+)$", card, re.M) if title in SECTIONS] == list(SECTIONS)

    def test_weights_are_in_half_precision_and_recommended_refinement_builds(self) -> None:
        network, description = checkpoint.load(box.DEFAULT, expected_network="lite_s")
        stored, written = load_file(SHIPPED / checkpoint.WEIGHTS), checkpoint.in_half(network)
        assert {key: tensor.dtype for key, tensor in stored.items()} == {k: t.dtype for k, t in written.items()}
        build(named(description["info"]["refinement"]), network.traits)
        assert description["info"]["licence"]

    @pytest.mark.networks
    def test_a_click_finds_a_disk(self) -> None:
        image, mask = photo((240, 320))
        y, x = np.argwhere(mask).mean(axis=0)
        session = Predictor().open(image)
        session.click(y, x)
        assert (session.mask & mask).sum() / (session.mask | mask).sum() > 0.7
