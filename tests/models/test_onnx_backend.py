"""Sessions with onnxruntime equal those with torch; the files are exported once, to the first writable folder."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import checkpoint, onnx_backend
from models.errors import InputError
from models.export import TOLERANCE
from models.interaction import Clicks
from models.predictor import Predictor
from models.steps import Segment, Start
from tests.models.tiny import HW, TINY_NETWORKS, photo, seeded, tiny_network

pytestmark = pytest.mark.networks

CLICKS = ((110.0, 100.0, True), (20.0, 30.0, False), (80.0, 150.0, True))


def saved(name: str, folder: Path) -> Path:
    return checkpoint.save(TINY_NETWORKS[name](), folder)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A checkpoint whose export takes seconds."""
    return checkpoint.save(tiny_network(input_hw=(32, 32)), tmp_path / "checkpoint")


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replace the export by an empty file; returns the list of folders in which it was made."""
    made: list[Path] = []

    def make(source: Path, folder: Path) -> None:
        made.append(folder)
        (folder / "network.onnx").touch()

    monkeypatch.setattr(onnx_backend, "_make", make)
    return made


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def forbid_torch(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a request reaches the whole network; the light work around the graphs is allowed."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("torch was asked")

    for name in ("forward", "encode", "correct", "start", "encode_frame", "decode"):
        if hasattr(predictor.network, name):
            monkeypatch.setattr(predictor.network, name, refuse)


def logits(prob: np.ndarray) -> np.ndarray:
    """Return logits, clamped to the range in which float32 distinguishes probabilities."""
    prob = prob.astype(np.float64).clip(1e-9, 1 - 3e-4)
    return np.log(prob / (1 - prob))


def assert_same_sessions(folder: Path, monkeypatch: pytest.MonkeyPatch, refinement: str | None = None) -> None:
    image = photo((170, 230))[0]
    by_torch, by_onnx = (Predictor(folder, refinement, backend=backend) for backend in ("torch", "onnx"))
    forbid_torch(by_onnx, monkeypatch)
    starts: list[dict[str, Any]] = [{}, {"mask": photo((170, 230), 1)[1]}]
    if by_onnx.takes_exemplar:
        starts.append({"exemplar": (photo((170, 230), 1)[1], Clicks.of([(80, 110, True), (5, 5, False)]))})
    for given in starts:
        sessions = [predictor.open(image, **given) for predictor in (by_torch, by_onnx)]
        for session in sessions:
            session.look_ahead()
        for click in CLICKS:
            expected, got = (logits(session.click(*click)) for session in sessions)
            assert expected.std() > 0.01
            assert np.abs(expected - got).max() < 3 * TOLERANCE * expected.std()
        assert np.mean(sessions[0].mask != sessions[1].mask) < 5e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TINY_NETWORKS))
def test_sessions_are_those_of_torch(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = saved(name, tmp_path / "checkpoint")
    assert_same_sessions(folder, monkeypatch)
    if name.startswith("focuscut"):
        assert_same_sessions(folder, monkeypatch, "focuscut")
    elif "flip" in Predictor(folder).refinements:
        assert_same_sessions(folder, monkeypatch, "flip")


@pytest.mark.slow
def test_onnx_encoder_takes_frames_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint.save(seeded("lite_s", side=224), tmp_path / "checkpoint")
    assert_same_sessions(folder, monkeypatch)


def test_files_are_made_once(small: Path, no_export: list[Path]) -> None:
    made = onnx_backend.onnx_files(small)
    assert onnx_backend.onnx_files(small) == made
    assert sorted(path.name for path in made.iterdir()) == [onnx_backend.FILES, "network.onnx"]
    assert len(no_export) == 1


def refuse_folders(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a disk that is mounted read-only, on which even root cannot write."""
    mkdir = os.mkdir

    def refusing(path: Any, *args: Any, **kwargs: Any) -> None:
        if Path(path).is_relative_to(where) and Path(path) != where:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        mkdir(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", refusing)


def test_a_checkpoint_that_can_only_be_read_has_its_files_in_the_cache(
    small: Path, cache: Path, no_export: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_folders(small, monkeypatch)
    made = onnx_backend.onnx_files(small)
    assert made.parent == cache
    assert sorted(path.name for path in small.iterdir()) == ["checkpoint.json", "weights.safetensors"]
    assert onnx_backend.onnx_files(small) == made
    assert len(no_export) == 1


def test_error_names_the_variable_without_writable_folder(
    small: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_folders(small, monkeypatch)
    cache.write_text("a file in its place")
    with pytest.raises(InputError, match="MASKWRIGHT_CACHE"):
        onnx_backend.onnx_files(small)


CLICK = """
import sys
from models.predictor import Predictor
from tests.models.tiny import HW, photo
print(Predictor(sys.argv[1], backend="onnx").open(photo(HW)[0]).click(100, 100).sum())
"""


def test_two_processes_may_start_at_once(small: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CLICK, str(small)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=240) for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert len([path for path in small.iterdir() if path.is_dir()]) == 1  # nothing half made is left


def test_files_exported_by_another_process_meanwhile_are_used(
    small: Path, no_export: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = onnx_backend._make

    def late(source: Path, folder: Path) -> None:
        make(source, folder)
        if len(no_export) == 1:
            onnx_backend.onnx_files(small)

    monkeypatch.setattr(onnx_backend, "_make", late)
    made = onnx_backend.onnx_files(small)
    assert len(no_export) == 2
    assert [path for path in small.iterdir() if path.is_dir()] == [made]


def test_a_network_that_cannot_be_exported_is_named(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("no translation of aten.something\nand a long trace")

    monkeypatch.setattr(onnx_backend.export, "write", fail)
    with pytest.raises(InputError, match=r"simpleclick_vit_base cannot be exported .*aten.something\): leave out"):
        Predictor(small, backend="onnx")
    assert sorted(path.name for path in small.iterdir()) == ["checkpoint.json", "weights.safetensors"]


def test_files_that_disagree_with_torch_are_removed(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_backend.export, "write", lambda graph, path: path.touch())
    sizes = onnx_backend.export.Sizes(batch=1, clicks=1, hw=(32, 32))
    checks = [onnx_backend.export.Check(sizes=sizes, difference=0.5)]
    monkeypatch.setattr(onnx_backend.export, "check", lambda graph, path: checks)
    with pytest.raises(InputError, match="disagrees with torch: leave out --backend"):
        Predictor(small, backend="onnx")
    assert sorted(path.name for path in small.iterdir()) == ["checkpoint.json", "weights.safetensors"]


@pytest.mark.parametrize("spoil", ["unlink", "touch", "list"])
def test_incomplete_files_are_refused(spoil: str, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_backend, "_make", lambda source, folder: (folder / "network.onnx").write_bytes(b"graph"))
    made = onnx_backend.onnx_files(small)
    assert onnx_backend.onnx_files(small) == made
    match spoil:
        case "unlink":
            (made / "network.onnx").unlink()
        case "touch":
            (made / "network.onnx").write_bytes(b"")
        case _:
            (made / onnx_backend.FILES).write_text("{")
    with pytest.raises(InputError, match=f"{made.name} is damaged: delete it"):
        Predictor(small, backend="onnx")


def test_a_small_network_answers_as_torch_and_leaves_other_views_to_it(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_same_sessions(small, monkeypatch)
    (made,) = (path for path in small.iterdir() if path.is_dir())
    assert made.name.startswith(f"onnx-{checkpoint.describe(small)['sha256'][:12]}-")
    asked: list[Any] = []

    def otherwise(requests: list[Any]) -> list[Any]:
        asked.extend(requests)
        return ["torch's"] * len(requests)

    predictor = Predictor(small, backend="onnx")
    answer = onnx_backend.OnnxAnswer(predictor.network, made, otherwise)
    image, prev_mask = (predictor.open(photo(HW)[0]).states[0].image[:n] for n in (3, 1))
    clicks, started = Clicks.of([(1, 1, True)]), onnx_backend.AT_THE_CLICK
    assert answer([Segment(image, prev_mask, clicks, started=started)]) == ["torch's"]
    assert asked[0].started is None
    assert answer([Start(image[:, :32, :32])]) == [started]


def test_unsupported_options_of_the_onnx_backend_are_refused(small: Path) -> None:
    with pytest.raises(InputError, match="precision bf16"):
        Predictor(small, backend="onnx", precision="bf16")
    with pytest.raises(InputError, match="device cuda"):
        Predictor(small, backend="onnx", device="cuda")
    with pytest.raises(InputError, match="got a network"):
        Predictor(tiny_network(), backend="onnx")
