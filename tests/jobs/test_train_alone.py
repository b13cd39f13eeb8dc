"""A run without Ray from the command line: started, resumed, and refused if it would be another run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from jobs import train_alone
from models import checkpoint
from models.errors import InputError
from tests.hub import cached, offline_hub
from tests.training.toys import toy

FLAGS = [
    *("--data.reader", "scenes", "--data.options", "num_images", "6", "height", "64", "width", "64"),
    *("--data.crop-hw", "64", "64", "--data.min-object-area", "20", "--data.window-size", "3"),
    *("--data.copy-paste.recipe", "none", "--data.augment.scale", "1", "1", "--network.name", "simpleclick_vit_xtiny"),
    *("--training.steps", "2", "--training.batch-size", "2", "--training.checkpoint-every", "1"),
    *("--training.pictures-every", "0"),
]
Begin = Callable[..., int]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    return lambda *more, preset="cpu_xtiny": train_alone.main([preset, *FLAGS, "--out", str(tmp_path / "run"), *more])


@pytest.mark.networks
def test_a_run_starts_resumes_and_is_refused_with_other_flags(begin: Begin, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert begin() == 0
    assert checkpoint.describe(run / "checkpoint")["info"]["step"] == 2
    # The size of the crop determines the size of the network.
    assert checkpoint.describe(run / "checkpoint")["config"]["input_hw"] == [64, 64]
    assert json.loads((run / "samples.json").read_text())["samples"] == 4
    weights = (run / "checkpoint" / checkpoint.WEIGHTS).read_bytes()
    assert begin() == train_alone.main([str(run), "--threads", "1"]) == 0
    assert (run / "checkpoint" / checkpoint.WEIGHTS).read_bytes() == weights
    with pytest.raises(InputError, match=r"another config .*training\.seed"):
        begin("--training.seed", "7")
    assert json.loads((run / "config.json").read_text())["config"]["training"]["seed"] == 0


@pytest.mark.networks
def test_a_checkpoint_records_what_it_started_from(begin: Begin, tmp_path: Path) -> None:
    start = toy("simpleclick_vit_xtiny", depth=12, dim=160, heads=4)
    folder = checkpoint.save(start, tmp_path / "start", licence="MIT")
    assert begin("--network.start-from", str(folder), "--training.steps", "1") == 0
    info = checkpoint.describe(tmp_path / "run" / "checkpoint")["info"]
    assert (info["licence"], info["started_from"]) == ("MIT", checkpoint.describe(folder)["sha256"])


@pytest.mark.networks
def test_timms_weights_of_a_backbone_are_kept_where_the_run_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, flags = tmp_path / "run", [*FLAGS, "--network.name", "lite_s", "--training.accumulate", "1"]
    flags += ["--network.pretrained", "--network.backbone", "test_efficientnet", "--data.targets-per-view", "1"]
    argv = ["lite_s", *flags, "--data.coarse", "--data.window-size", "4", "--out", str(run)]
    offline_hub(tmp_path / "hub", monkeypatch)
    with pytest.raises(InputError, match="without internet, copy a file with them here"):
        train_alone.main(argv)
    assert not (run / "config.json").exists()
    given = cached(tmp_path / "hub", "test_efficientnet")
    assert train_alone.main([*argv, "--training.steps", "1"]) == 0
    network, description = checkpoint.load(run / "start")
    assert torch.equal(network.get_parameter("image_encoder.trunk.conv_stem.weight"), given["conv_stem.weight"])
    info = checkpoint.describe(run / "checkpoint")
    assert info["config"]["backbone"] == "test_efficientnet"
    assert (info["info"]["started_from"], info["info"]["licence"]) == (description["sha256"], "apache-2.0")
    shutil.rmtree(tmp_path / "hub")
    assert train_alone.main([str(run)]) == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--network.pretrained"], r"add --network\.name lite_s"),
        (["--network.name", "lite_s", "--network.backbone", "no_such"], "backbone 'no_such'"),
        (
            ["--network.name", "lite_s", "--network.pretrained", "--network.start-from", "maskwright:lite_s"],
            "are for fresh weights",
        ),
        (["--validation.hold-out", "0.3"], "hold-out"),
        (["--scaling.workers", "2"], r"scaling\.workers"),
        (["--register", "name"], "--register"),
        (["--data.coarse", "coco"], "no image's id begins with it"),
        (["--data.min-object-area", "100000"], "none of the first"),
    ],
)
def test_unsupported_flags_are_refused_before_anything_is_written(
    flags: list[str], message: str, begin: Begin, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        begin(*flags)
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"run_id": "x", "config": {}}', r"jobs\.train --resume"),
        ('{"kind": "alone", "config": {}}', "no config|not a config"),
        (None, "holds no config.json"),
    ],
)
def test_a_folder_that_is_not_such_a_run_is_refused(text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        train_alone.main([str(tmp_path)])


def test_without_a_preset_the_presets_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="expected one of the presets"):
        train_alone.main([])
    assert "lite_s" in capsys.readouterr().out


def test_invalid_flags_about_the_machine_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="loaders -1"):
        train_alone.machine(["--loaders", "-1"])
