"""Validation during training: the images that it plays, the checkpoints that it keeps, and when it ends training."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.config import TrainConfig
from models import checkpoint as checkpoints
from models.errors import InputError
from pipeline.data.hold_out import HoldOut
from pipeline.data.readers import open_reader
from pipeline.training.history import read_entries
from pipeline.training.validation import BEST, VALIDATION, ValidationConfig, Validator
from tests.training.tiny import tiny_network

SCENES = open_reader("scenes", options={"num_images": "12", "height": "64", "width": "64"})
HELD = HoldOut(reader=SCENES, fraction=0.3, side="held_out")


def validator(
    storage: Path, nocs: list[float], found: list[Any], ended: list[bool] | None = None, **config: Any
) -> Validator:
    """Return a validator that finds the checkpoints `found` and measures `nocs`, and fills `ended` to end training."""
    ended = [] if ended is None else ended
    made = Validator(
        config=ValidationConfig(hold_out=0.3, **config),
        reader=HELD,
        storage=storage,
        newest=lambda: found[0] if found else None,
        log=lambda step, metrics: None,
        say=print,
        end=lambda: ended.append(True),
    )
    made._play = lambda checkpoint: {"noc": nocs.pop(0), "iou_at_1": 0.5, "iou_at_5": 0.6}  # pyright: ignore
    return made


def save(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    checkpoints.save(tiny_network(seed), folder, refinement="standard")
    return folder


def test_the_best_checkpoint_is_kept_and_patience_ends_training(tmp_path: Path) -> None:
    found: list[Any] = []
    ended: list[bool] = []
    watch = validator(tmp_path, [7.0, 5.0, 5.0, 6.0], found, ended, patience=2)
    assert watch.look() is None
    for step in (10, 20, 30, 40):
        found[:] = [(save(tmp_path / str(step), step), step)]
        entry = watch.look()
        assert entry is not None
        assert entry["step"] == step
        assert watch.look() is None  # the same checkpoint again
        assert ended == ([True] if step == 40 else [])
    best, expected = checkpoints.load(tmp_path / BEST)[0], checkpoints.load(tmp_path / "20")[0]
    assert all(torch.equal(a, b) for a, b in zip(best.parameters(), expected.parameters(), strict=True))
    assert [entry["noc"] for entry in read_entries(tmp_path / VALIDATION)] == [7.0, 5.0, 5.0, 6.0]


def test_a_resumed_run_remembers_its_validations(tmp_path: Path) -> None:
    (tmp_path / VALIDATION).write_text(json.dumps({"step": 10, "noc": 3.0, "iou_at_1": 0.1}) + "\n" + '{"step": 2')
    found = [(save(tmp_path / "a", 1), 10)]
    watch = validator(tmp_path, [4.0], found)
    assert watch.look() is None
    found[:] = [(save(tmp_path / "b", 1), 20)]
    assert watch.look() is not None
    assert not (tmp_path / BEST).exists()
    assert [entry["step"] for entry in read_entries(tmp_path / VALIDATION)] == [10, 20]


def test_a_missing_checkpoint_is_skipped(tmp_path: Path) -> None:
    watch = validator(tmp_path, [], [(tmp_path / "gone", 5)])
    assert watch.look() is None
    assert watch.seen == -1


def test_inconsistent_settings_are_refused() -> None:
    for settings, message in (
        ({"hold_out": 1.0}, "hold_out is 1.0"),
        ({"patience": 2}, "give --validation.hold-out"),
        ({"hold_out": 0.1, "objects": 0}, "objects is 0"),
    ):
        with pytest.raises(InputError, match=message):
            ValidationConfig(**settings)  # pyright: ignore
    assert TrainConfig().validation.hold_out == 0
