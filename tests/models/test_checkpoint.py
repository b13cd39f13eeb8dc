import json
from pathlib import Path

import pytest
import torch

from models import checkpoint
from models.errors import InputError
from tests.models.tiny import tiny_network


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return checkpoint.save(tiny_network(), tmp_path / "a" / "b", refinement="flip", note=[1, 2])


def test_saved_and_loaded_weights_are_bit_equal(folder: Path) -> None:
    network, description = checkpoint.load(folder, expected_network="simpleclick_vit_base")
    original = tiny_network()
    assert network.config == original.config
    assert not network.training
    for key, tensor in original.state_dict().items():
        assert torch.equal(network.state_dict()[key], tensor), key
    assert description["info"] == {"refinement": "flip", "note": [1, 2]}


@pytest.mark.check(46)
def test_saving_again_is_complete_and_leaves_no_parts(folder: Path) -> None:
    first = checkpoint.describe(folder)["sha256"]
    checkpoint.save(tiny_network(seed=1), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.json", "weights.safetensors"]
    assert checkpoint.describe(folder)["sha256"] != first


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no checkpoint at .*nowhere"):
        checkpoint.load(tmp_path / "nowhere")


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / checkpoint.WEIGHTS).unlink()
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        checkpoint.load(folder)


@pytest.mark.check(21)
@pytest.mark.parametrize("keep", [0, 7, 100, 0.5, 0.999])
def test_truncated_weights_are_refused(folder: Path, keep: float) -> None:
    path = folder / checkpoint.WEIGHTS
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match=r"weights\.safetensors cannot be read"):
        checkpoint.load(folder)


@pytest.mark.check(21)
def test_damaged_weights_are_refused(folder: Path) -> None:
    path = folder / checkpoint.WEIGHTS
    path.write_bytes(b"\xff" * 16 + path.read_bytes()[16:])
    with pytest.raises(InputError, match="cannot be read"):
        checkpoint.load(folder)


def test_a_git_lfs_pointer_says_what_to_do(folder: Path) -> None:
    (folder / checkpoint.WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(InputError, match="git lfs pull"):
        checkpoint.load(folder)


def test_a_checkpoint_of_another_network_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"simpleclick_vit_base.*expected 'simpleclick_vit_huge'"):
        checkpoint.load(folder, expected_network="simpleclick_vit_huge")


@pytest.mark.check(21)
def test_weights_of_another_shape_are_refused(folder: Path, tmp_path: Path) -> None:
    other = checkpoint.save(tiny_network(dim=48), tmp_path / "other")
    (other / checkpoint.WEIGHTS).replace(folder / checkpoint.WEIGHTS)
    with pytest.raises(InputError, match="of another shape"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "format 99"),
        ({"network": "simpleclick_vit_giant"}, "simpleclick_vit_giant"),
        ({"config": [1]}, r"has config \[1\]: expected an object"),
        ({"config": {"depht": 3}}, "did you mean 'depth'"),
        ({"config": {"dim": "many"}}, "cannot be built"),
    ],
)
def test_invalid_description_is_refused(folder: Path, change: dict, message: str) -> None:
    path = folder / checkpoint.DESCRIPTION
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=message):
        checkpoint.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "3"])
def test_a_broken_description_is_refused(folder: Path, text: str) -> None:
    (folder / checkpoint.DESCRIPTION).write_text(text)
    with pytest.raises(InputError, match="is not a checkpoint description"):
        checkpoint.load(folder)


def test_weights_have_the_file_mode_of_the_description(tmp_path: Path) -> None:
    folder = checkpoint.save(tiny_network(), tmp_path / "c")
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes[checkpoint.WEIGHTS] == modes[checkpoint.DESCRIPTION]
