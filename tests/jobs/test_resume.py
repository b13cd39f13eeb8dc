"""`--resume RUN`: the folder of a run holds everything that resuming it needs."""

import dataclasses
import json
from pathlib import Path

import pytest

from jobs.cli import as_dict
from jobs.presets import PRESETS
from jobs.train import _resume_or_start, resumed
from models.errors import InputError


def run_in(folder: Path) -> None:
    config = dataclasses.replace(PRESETS["emc_hrnet18s_cocolvis"](), out="elsewhere", num_cpus=3)
    saved = {"run_id": "1", "preset": "emc_hrnet18s_cocolvis", "config": as_dict(config)}
    (folder / "config.json").write_text(json.dumps(saved))


def test_the_config_is_the_stored_one_with_the_given_folder(tmp_path: Path) -> None:
    run_in(tmp_path)
    for argv in (["--resume", str(tmp_path)], [f"--resume={tmp_path}"]):
        name, config = resumed(argv)
        assert name == "emc_hrnet18s_cocolvis"
        expected = dataclasses.replace(PRESETS[name](), out=str(tmp_path), num_cpus=3)
        assert config == expected


def test_a_run_may_resume_with_other_workers(tmp_path: Path) -> None:
    run_in(tmp_path)
    _, config = resumed(["--resume", str(tmp_path), "--scaling.workers", "2"])
    assert config.scaling.workers == 2
    assert config.training == PRESETS["emc_hrnet18s_cocolvis"]().training


def test_the_config_of_another_version_is_refused(tmp_path: Path) -> None:
    run_in(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    saved["config"]["training"]["novelty"] = 1
    (tmp_path / "config.json").write_text(json.dumps(saved))
    with pytest.raises(InputError, match="novelty"):
        resumed(["--resume", str(tmp_path)])


def test_a_run_of_an_older_version_without_new_fields_resumes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["config"]["training"]["ema"], saved["config"]["data"]["focus"], saved["config"]["before_after"]
    (tmp_path / "config.json").write_text(json.dumps(saved))
    name, config = resumed(["--resume", str(tmp_path)])
    assert config.training == PRESETS[name]().training
    assert _resume_or_start(tmp_path, "sqlite:///never", name, config) == "1"
    assert f"resuming the run in {tmp_path}" in capsys.readouterr().out


def test_another_config_is_refused_with_the_fields_that_differ(tmp_path: Path) -> None:
    run_in(tmp_path)
    name, config = resumed(["--resume", str(tmp_path)])
    longer = dataclasses.replace(config, training=dataclasses.replace(config.training, steps=7, ema=0.5))
    with pytest.raises(
        InputError, match=r"another config \(training.steps: given 7, saved \d+; training.ema: given"
    ) as it:
        _resume_or_start(tmp_path, "sqlite:///never", name, longer)
    assert f"--resume {tmp_path}" in str(it.value)
    # Settings of where it runs may differ.
    elsewhere = dataclasses.replace(config, out="other", num_cpus=1)
    assert _resume_or_start(tmp_path, "sqlite:///never", name, elsewhere) == "1"
