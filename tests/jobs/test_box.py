"""Commands accept maskwright:NAME as a checkpoint, and use maskwright:lite_s if none is given."""

import dataclasses
import json
from pathlib import Path

import pytest

from jobs import evaluate, export, predict, sweep, tracking, train
from jobs.cli import checkpoint_source
from jobs.config import EvaluateConfig, NetworkChoice, SweepConfig, TrainConfig
from jobs.presets import PRESETS
from jobs.sweep_training import train_config
from models import box
from models import checkpoint as checkpoints
from models.errors import InputError
from models.refinement import named, to_dict
from tests.boxed import boxed
from tests.pipeline.small_data import picture, save
from tests.training.toys import toy

__all__ = ["boxed"]

SCENES = {"num_images": "12", "height": "64", "width": "64"}


def on_scenes(preset: str) -> TrainConfig:
    config = PRESETS[preset]()
    return dataclasses.replace(config, data=dataclasses.replace(config.data, reader="scenes", options=SCENES))


def test_a_name_stays_as_it_is_and_a_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkpoint_source("--checkpoint", box.DEFAULT) == box.DEFAULT
    assert checkpoint_source("--checkpoint", "runs/mine") == str(tmp_path / "runs" / "mine")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert checkpoint_source("--checkpoint", box.DEFAULT) == box.DEFAULT
    assert checkpoint_source("--checkpoint", "s3://bucket/mine") == "s3://bucket/mine"
    with pytest.raises(InputError, match="--checkpoint runs/mine"):
        checkpoint_source("--checkpoint", "runs/mine")


@pytest.mark.usefixtures("boxed")
def test_evaluation_without_a_checkpoint_plays_the_model_of_the_box() -> None:
    config = EvaluateConfig(reader="scenes", options=SCENES)
    checked = evaluate.check(config)
    assert (checked.checkpoint, checked.refine) == (box.DEFAULT, ("zoom_in",))
    assert evaluate.check(dataclasses.replace(config, checkpoint=box.DEFAULT)) == checked
    assert evaluate.check(dataclasses.replace(config, baseline="grabcut")).checkpoint is None
    with pytest.raises(InputError, match=r"unknown model 'maskwright:lite'; did you mean 'maskwright:lite_s'"):
        evaluate.check(dataclasses.replace(config, checkpoint="maskwright:lite"))


@pytest.mark.usefixtures("boxed")
def test_prediction_without_a_checkpoint_uses_the_model_of_the_box(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--image", str(save(picture(), Path("image.png"))), "--clicks", "3,3,+"]
    said = []
    for more in ([], ["--checkpoint", box.DEFAULT]):
        assert predict.main([*argv, *more]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


@pytest.mark.usefixtures("boxed")
def test_fine_tuning_starts_from_the_model_of_the_box() -> None:
    checked = train.check(on_scenes("finetune"))
    assert checked.network == NetworkChoice(name="simpleclick_vit_xtiny", start_from=box.DEFAULT, fresh=False)
    assert checked.refine == "zoom_in"
    assert train.origin(checked.network.start_from)["started_from"] == checkpoints.describe(box.DEFAULT)["sha256"]
    named_too = dataclasses.replace(on_scenes("finetune"), network=checked.network)
    assert train.check(named_too).network == checked.network
    fresh = dataclasses.replace(on_scenes("finetune"), network=NetworkChoice(name="", fresh=True))
    with pytest.raises(InputError, match=r"--network\.fresh needs a network: give --network\.name"):
        train.check(fresh)
    with pytest.raises(InputError, match=r"give --network\.start-from DIR"):
        train.check(on_scenes("finetune_mobile_sam"))


@pytest.mark.parametrize("recommended", ["sam", "zoom_in_late"])
@pytest.mark.parametrize("preset", ["finetune", "finetune_sam", "demo_scenes"])
def test_a_fine_tuned_lite_s_recommends_what_its_start_does(preset: str, recommended: str, boxed: Path) -> None:
    checkpoints.save(toy("lite_s"), boxed, refinement=to_dict(named(recommended)))
    checked = train.check(on_scenes(preset))
    assert (checked.network.name, checked.refine) == ("lite_s", recommended)


def test_a_network_by_name_recommends_what_its_start_does_else_what_its_kind_is_made_for(tmp_path: Path) -> None:
    def settled(preset: str, *, refine: str = "", out: str = "", **network: object) -> str:
        config = dataclasses.replace(on_scenes(preset), network=NetworkChoice(**network), refine=refine, out=out)  # pyright: ignore
        return train.check(config).refine

    start = str(checkpoints.save(toy("lite_s"), tmp_path / "start", refinement=to_dict(named("zoom_in_late"))))
    silent = str(checkpoints.save(toy("lite_s"), tmp_path / "silent"))
    assert settled("finetune_sam", name="lite_s", start_from=start) == "zoom_in_late"
    assert settled("finetune_sam", name="lite_s", start_from=start, refine="standard") == "standard"
    assert settled("finetune_sam", name="lite_s", start_from=silent) == "sam"
    assert settled("finetune_sam", name="mobile_sam", fresh=True) == "sam"
    assert settled("finetune", name="simpleclick_vit_xtiny", fresh=True) == "standard"
    # What an earlier version settled stands where its run goes on.
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / train.CONFIG).write_text(json.dumps({"config": {"refine": "standard"}}))
    assert settled("finetune_sam", name="lite_s", start_from=start, out=str(tmp_path / "run")) == "standard"


@pytest.mark.usefixtures("boxed")
def test_a_sweep_uses_the_model_of_the_box_and_cannot_change_it(tmp_path: Path) -> None:
    config = sweep.check(SweepConfig(reader="scenes", options=SCENES, hold_out=0.3))
    assert config.checkpoint == box.DEFAULT
    assert sweep.base_of(config) == named("zoom_in")
    assert train_config(config, {}, tmp_path).network.start_from == box.DEFAULT
    with pytest.raises(InputError, match="--store changes the checkpoint, but maskwright:lite_s comes with"):
        sweep.check(dataclasses.replace(config, store=True))


def test_a_checkpoint_exported_in_half_keeps_its_description(boxed: Path, tmp_path: Path) -> None:
    out = tmp_path / "half"
    argv = ["--checkpoint", box.DEFAULT, "--as", "half", "--out", str(out)]
    assert export.main(argv) == 0
    whole, half = checkpoints.describe(boxed), checkpoints.describe(out)
    assert half["info"] == whole["info"] | {"half_of": whole["sha256"]}
    for key in ("network", "config", "trained_on"):
        assert half[key] == whole[key]
    sizes = [(folder / checkpoints.WEIGHTS).stat().st_size for folder in (out, boxed)]
    assert sizes[0] < 0.6 * sizes[1]
    checkpoints.load(out)
    with pytest.raises(InputError, match="exists and is not an empty folder"):
        export.main(argv)


@pytest.mark.networks
def test_the_model_of_the_box_can_be_registered(boxed: Path, mlflow_uri: str) -> None:
    from mlflow.artifacts import download_artifacts

    run_id = tracking.start_run(mlflow_uri, "register", {})
    uri = tracking.register(mlflow_uri, run_id, box.DEFAULT, name="box")
    found = download_artifacts(artifact_uri=uri, dst_path="down", tracking_uri=mlflow_uri, registry_uri=mlflow_uri)
    assert json.loads((Path(found) / checkpoints.DESCRIPTION).read_text()) == checkpoints.describe(boxed)
