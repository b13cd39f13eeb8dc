"""jobs.export keeps graphs that pass its checks, and leaves no files of those that do not."""

import json
from pathlib import Path

import pytest

from jobs import export
from models import checkpoint as checkpoints
from models.errors import InputError
from models.export import TOLERANCE, Check, Graph, Sizes
from tests.training.tiny import tiny_network
from tests.training.toys import toy

pytestmark = pytest.mark.networks

SIZES = Sizes(batch=1, clicks=1, hw=(32, 32))


@pytest.fixture
def argv(tmp_path: Path) -> list[str]:
    checkpoints.save(tiny_network(), tmp_path / "checkpoint")
    return ["--checkpoint", str(tmp_path / "checkpoint"), "--out", str(tmp_path / "onnx" / "mine")]


def test_export_writes_the_network_and_its_description(
    argv: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export.main(argv) == 0
    out = tmp_path / "onnx" / "mine"
    assert sorted(path.name for path in out.iterdir()) == ["export.json", "network.onnx"]
    assert sorted(path.name for path in out.parent.iterdir()) == ["mine"]
    written = json.loads((out / "export.json").read_text())
    assert written["network"] == "simpleclick_vit_xtiny"
    described = json.loads((tmp_path / "checkpoint" / "checkpoint.json").read_text())
    assert written["checkpoint_sha256"] == described["sha256"]
    (graph,) = written["graphs"]
    assert graph["files"] == {"network.onnx": (out / "network.onnx").stat().st_size}
    assert graph["unused"] == ["clicks_first"]
    assert [port["name"] for port in graph["inputs"]][-1] == "clicks_valid"
    assert graph["inputs"][0]["shape"] == ["batch", 3, 32, 32]
    assert all(check["difference"] <= TOLERANCE for check in graph["checks"])
    said = capsys.readouterr().out
    assert "network.onnx" in said
    assert "onnxruntime" in said


def test_input_hw_is_refused_for_a_network_without_a_view_size(tmp_path: Path) -> None:
    checkpoints.save(toy("mobile_sam"), tmp_path / "sam")
    with pytest.raises(InputError, match="--input-hw: mobile_sam has no view size to set"):
        export.main(["--checkpoint", str(tmp_path / "sam"), "--out", str(tmp_path / "out"), "--input-hw", "448", "672"])


@pytest.mark.parametrize("differences", [[1e-6, 0.5], [float("nan")], [None, None]])
def test_a_graph_that_differs_from_torch_is_not_kept(
    differences: list[float | None],
    argv: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def write(graph: Graph, path: Path) -> list[str]:
        path.write_bytes(b"onnx")
        return [port.name for port in graph.inputs]

    monkeypatch.setattr(export.export, "write", write)
    checks = [Check(sizes=SIZES, difference=difference) for difference in differences]
    monkeypatch.setattr(export.export, "check", lambda graph, path: checks)
    assert export.main(argv) == 1
    assert "error: the outputs of network.onnx differ from torch's" in capsys.readouterr().err
    assert list((tmp_path / "onnx").iterdir()) == []
