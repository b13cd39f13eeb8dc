"""`--backend onnx` of predict and evaluate: the same masks as torch, and no mixing with results of torch."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jobs import evaluate, predict
from jobs.cli import parse
from jobs.config import EvaluateConfig
from models import checkpoint as checkpoints
from models.errors import InputError
from models.onnx_backend import OnnxAnswer, onnx_files
from pipeline.evaluation import ray_evaluate
from pipeline.evaluation.config import EvaluationScaling
from pipeline.saved import differences
from tests.models.tiny import photo, tiny_network

pytestmark = pytest.mark.networks


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return checkpoints.save(tiny_network(seed=8, input_hw=(32, 32)), tmp_path / "checkpoint")


def evaluation(checkpoint: Path, *more: str) -> EvaluateConfig:
    argv = ["--checkpoint", str(checkpoint), "--reader", "scenes", *more]
    return evaluate.check(parse(EvaluateConfig, argv, prog="evaluate"))


def test_predict_and_an_evaluator_use_the_same_onnx_files(checkpoint: Path, tmp_path: Path) -> None:
    Image.fromarray(photo((60, 80))[0]).save(tmp_path / "photo.png")
    argv = ["--checkpoint", str(checkpoint), "--image", str(tmp_path / "photo.png"), "--clicks", "30,40,+", "5,5,-"]
    masks = []
    for backend in ("torch", "onnx"):
        out = tmp_path / f"{backend}.png"
        assert predict.main([*argv, "--out", str(out), "--backend", backend]) == 0
        masks.append(np.array(Image.open(out)))
    assert 0 < masks[0].mean() < 255
    assert np.mean(masks[0] != masks[1]) < 1e-3
    made = onnx_files(checkpoint)
    config = evaluation(checkpoint, "--scaling.backend", "onnx")
    actor = ray_evaluate._Evaluator(str(checkpoint), evaluate._refinements(config), [], [], config.scaling)
    actor._load()
    assert isinstance(actor.methods[0].answer, OnnxAnswer)
    assert [path for path in checkpoint.iterdir() if path.is_dir()] == [made]


def test_an_evaluation_resumes_only_with_the_same_backend(checkpoint: Path) -> None:
    by_torch, by_onnx = (
        evaluate.settings_of(evaluation(checkpoint, "--scaling.backend", backend), 2) for backend in ("torch", "onnx")
    )
    assert differences(by_torch, by_onnx) == 'backend: given "onnx", saved "torch"'
    before = {name: value for name, value in by_torch.items() if name != "backend"}
    assert differences(before, by_torch) == ""
    assert differences(before, by_onnx) == differences(by_torch, by_onnx)


@pytest.mark.parametrize(
    ("given", "words"), [({"precision": "bf16"}, "got precision bf16"), ({"gpu": True}, "device cuda")]
)
def test_settings_that_onnxruntime_lacks_are_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        EvaluationScaling(backend="onnx", **given)  # pyright: ignore[reportArgumentType]
