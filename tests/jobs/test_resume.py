"""`--resume RUN`: the folder of a run says all that is needed to go on with it."""

import dataclasses
import json
from pathlib import Path

import pytest

from jobs.cli import as_dict
from jobs.presets import PRESETS
from jobs.train import resumed
from models.errors import InputError


def run_in(folder: Path) -> None:
    config = dataclasses.replace(PRESETS["emc_hrnet18s_cocolvis"](), out="elsewhere", num_cpus=3)
    saved = {"run_id": "1", "preset": "emc_hrnet18s_cocolvis", "config": as_dict(config)}
    (folder / "config.json").write_text(json.dumps(saved))


def test_the_config_is_the_runs_and_the_folder_the_given_one(tmp_path: Path) -> None:
    run_in(tmp_path)
    for argv in (["--resume", str(tmp_path)], [f"--resume={tmp_path}"]):
        name, config = resumed(argv)
        assert name == "emc_hrnet18s_cocolvis"
        expected = dataclasses.replace(PRESETS[name](), out=str(tmp_path), num_cpus=3)
        assert config == expected


def test_it_may_go_on_with_other_workers(tmp_path: Path) -> None:
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
