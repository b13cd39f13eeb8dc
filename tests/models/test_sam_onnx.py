"""MobileSAM's pair of ONNX files: weights without names are matched to their modules."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from jobs import import_checkpoint
from models import checkpoint
from models.errors import InputError
from models.networks import NETWORKS
from models.networks.sam import MobileSamConfig
from models.published.importing import fresh, import_model, import_pair
from models.published.sam_onnx import EPS, read_pair
from tests.models.tiny import TINY_MOBILE_SAM

pytestmark = pytest.mark.networks


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "mobile_sam", MobileSamConfig(**TINY_MOBILE_SAM))


def theirs(name: str) -> str:
    """Return a tensor's name in MobileSAM's code, the inverse of models/published/sam.py."""
    if not name.startswith("image_encoder.trunk."):
        return name
    parts = name.removeprefix("image_encoder.trunk.").split(".")
    if parts[0] == "patch_embed":
        parts[1] = {"conv1": "seq.0", "conv2": "seq.2"}[parts[1]]
    elif parts[2] == "downsample":
        parts[:2] = ["layers", str(int(parts[1]) - 1)]
    else:
        parts[0] = "layers"
    return "image_encoder." + ".".join(parts).replace(".conv.", ".c.")


def folded() -> dict[str, Tensor]:
    """Return a small network's weights under the authors' names, with batch norms that only add a bias."""
    state = fresh("mobile_sam", seed=3).state_dict()
    for name, tensor in state.items():
        if name.endswith("running_var"):
            tensor.fill_(1 - EPS)
            norm = name.removesuffix("running_var")
            state[f"{norm}weight"].fill_(1)
            state[f"{norm}running_mean"].zero_()
            state[f"{norm}bias"].normal_(generator=torch.Generator().manual_seed(len(name)))
    return {theirs(name): tensor for name, tensor in state.items()}


class Exporter:
    """Writes weights into nodes as torch's old exporter does: unchanged weights keep their names, others lose them."""

    def __init__(self) -> None:
        from onnx import helper, numpy_helper

        self.helper, self.numpy_helper = helper, numpy_helper
        self.nodes, self.initializers = [], []

    def named(self, name: str, array: np.ndarray) -> None:
        self.initializers.append(self.numpy_helper.from_array(np.ascontiguousarray(array), name))

    def node(self, kind: str, module: str, *arrays: np.ndarray) -> None:
        """Add a node with unnamed weights; the first input of a convolution or product is not a weight."""
        names = [f"onnx::{kind}_{len(self.initializers) + number}" for number in range(len(arrays))]
        for name, array in zip(names, arrays, strict=True):
            self.named(name, array)
        place = "/" + "/".join([*module.split("."), kind] if module else [kind])
        self.nodes.append(self.helper.make_node(kind, ["x", *names], [f"out{len(self.nodes)}"], name=place))

    def write(self, path: Path) -> Path:
        import onnx

        graph = self.helper.make_graph(self.nodes, "graph", [], [], self.initializers)
        onnx.save(self.helper.make_model(graph), path)
        return path


def pair(state: dict[str, Tensor], folder: Path) -> tuple[Path, Path]:
    """The two files that hold `state`."""
    encoder, decoder = Exporter(), Exporter()
    for name, tensor in state.items():
        array, module = tensor.numpy(), name.rsplit(".", 1)[0]
        if name.startswith("image_encoder."):
            own = module.removeprefix("image_encoder.")
            if ".bn" in name:
                continue
            if name.endswith(".c.weight"):
                encoder.node("Conv", own, array, state[f"{module.removesuffix('.c')}.bn.bias"].numpy())
            elif name.endswith("attention_biases"):
                cells = array.shape[1]
                encoder.node("Add", own, np.stack([array] * cells, 1))
            elif name.endswith("weight") and array.ndim == 2:
                encoder.node("MatMul", own, array.T)
            elif own in ("neck.1", "neck.3"):
                encoder.node("Mul" if name.endswith("weight") else "Add", own, array.reshape(-1, 1, 1))
            else:
                encoder.named(f"{own}.{name.rsplit('.', 1)[1]}", array)
        elif name == "prompt_encoder.no_mask_embed.weight":
            decoder.node("Mul", "", array.reshape(1, -1, 1, 1))
        elif name == "mask_decoder.iou_token.weight":
            tokens = np.concatenate([array, state["mask_decoder.mask_tokens.weight"].numpy()])
            decoder.node("Expand", "", tokens[None])
        elif name != "mask_decoder.mask_tokens.weight":
            decoder.named(f"model.{name}", array)
    return encoder.write(folder / "encoder.onnx"), decoder.write(folder / "decoder.onnx")


def test_every_weight_is_found(tmp_path: Path) -> None:
    state = folded()
    read = read_pair(*pair(state, tmp_path))
    assert read.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(read[name], tensor), name


def test_a_pair_becomes_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder, decoder = pair(folded(), tmp_path)
    out = tmp_path / "imported"
    assert import_checkpoint.main([str(encoder), str(decoder), "--network", "mobile_sam", "--out", str(out)]) == 0
    assert "all that the network has" in capsys.readouterr().out
    info = checkpoint.describe(out)["info"]
    assert info["source"]["file"] == "encoder.onnx decoder.onnx"
    assert [len(digest) for digest in info["source"]["sha256"].split()] == [64, 64]
    assert info["refinement"]["mask_threshold"] == 0.5


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--network", "sam_vit_base"], "--network mobile_sam"),
        (["--network", "mobile_sam", "--as", "backbone"], "reads one file"),
    ],
)
def test_two_files_with_other_flags_are_refused(flags: list[str], said: str, tmp_path: Path) -> None:
    files = [str(path) for path in pair(folded(), tmp_path)]
    with pytest.raises(InputError, match=said):
        import_checkpoint.main([*files, *flags, "--out", str(tmp_path / "out")])


def test_invalid_pair_is_refused(tmp_path: Path) -> None:
    encoder, decoder = pair(folded(), tmp_path)
    with pytest.raises(InputError, match=r"decoder.onnx holds a decoder: pass the encoder first"):
        import_pair(decoder, encoder, "mobile_sam")
    with pytest.raises(InputError, match=r"encoder.onnx and .*encoder.onnx: this published checkpoint does not fit"):
        import_pair(encoder, encoder, "mobile_sam")
    decoder.write_bytes(b"something else")
    with pytest.raises(InputError, match="cannot be read as ONNX"):
        import_pair(encoder, decoder, "mobile_sam")
    with pytest.raises(InputError, match=r"no file at .*nothing.onnx"):
        import_pair(encoder, tmp_path / "nothing.onnx", "mobile_sam")
    with pytest.raises(InputError, match=r"expected MobileSAM's pair, ENCODER.onnx DECODER.onnx"):
        import_model(encoder, "mobile_sam")
