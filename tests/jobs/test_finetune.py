"""Fine-tuning on your own images with one command: settings from the checkpoint, and the files that it writes."""

import dataclasses
import json
from pathlib import Path

import pytest

from jobs import train
from jobs.config import BeforeAfterConfig, EvaluateConfig, TrainConfig
from jobs.evaluate import open_datasets
from jobs.presets import PRESETS
from models import checkpoint as checkpoints
from models.errors import InputError
from models.refinement import named, to_dict
from pipeline.data.hold_out import HoldOut
from pipeline.data.readers import open_reader
from pipeline.training.history import read_entries
from pipeline.training.validation import BEST, VALIDATION
from tests.pipeline.coco_writer import write_coco
from tests.training.tiny import tiny_network


def own_data(folder: Path) -> Path:
    write_coco(open_reader("scenes", options={"num_images": "12", "height": "64", "width": "64"}), folder, "png")
    return folder


def test_network_size_and_refinement_come_from_the_checkpoint(tmp_path: Path) -> None:
    checkpoints.save(tiny_network(), tmp_path / "start", refinement=to_dict(named("zoom_in")))
    config = PRESETS["finetune"]()
    config = dataclasses.replace(
        config,
        network=dataclasses.replace(config.network, start_from=str(tmp_path / "start")),
        data=dataclasses.replace(config.data, root=str(own_data(tmp_path / "own"))),
    )
    checked = train.check(config)
    assert checked.network.name == "simpleclick_vit_xtiny"
    assert checked.data.crop_hw == (32, 32)
    assert checked.data.augment.scale == (0.054, 0.1)
    assert checked.refine == "zoom_in"


def test_evaluation_plays_the_held_out_images(tmp_path: Path) -> None:
    root = own_data(tmp_path)
    config = EvaluateConfig(baseline="grabcut", reader="coco", root=str(root), hold_out=0.3)
    (reader,) = open_datasets(config).values()
    whole = open_reader("coco", str(root))
    training = HoldOut(reader=whole, fraction=0.3, side="training")
    held = {item.id for item in reader.items()}
    assert held
    assert held.isdisjoint(item.id for item in training.items())
    with pytest.raises(InputError, match=r"hold_out is 1\.0"):
        EvaluateConfig(baseline="grabcut", hold_out=1.0)


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_one_command_trains_and_compares_before_and_after(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints.save(tiny_network(), tmp_path / "start", refinement="standard")
    arguments = ["finetune", "--network.start-from", str(tmp_path / "start"), "--out", "run"]
    arguments += ["--data.root", str(own_data(tmp_path / "own")), "--data.min-object-area", "20"]
    arguments += ["--data.augment.scale", "0.5", "1", "--data.window-size", "4", "--validation.hold-out", "0.3"]
    arguments += ["--training.steps", "2", "--training.batch-size", "4", "--before-after.objects", "2"]
    arguments += ["--before-after.min-area", "20", "--before-after.max-clicks", "3", "--validation.objects", "2"]
    arguments += ["--validation.max-clicks", "3"]
    arguments += ["--scaling.cpus-per-worker", "0.5", "--scaling.cpus-per-data-actor", "0.3"]
    arguments += ["--scaling.data-actors", "1"]
    assert train.main(arguments) == 0
    run = tmp_path / "run"
    before, after = (json.loads((run / when / "summary.json").read_text())[0] for when in ("before", "after"))
    assert before["objects"] == after["objects"] == 2
    assert (run / "compare.html").is_file()
    assert (run / "before" / "report.html").is_file()
    said = capsys.readouterr().out
    assert "NoC@85" in said

    # The checkpoint was validated on images that training never sees.
    entries = read_entries(run / "ray" / VALIDATION)
    assert entries[-1]["step"] == 2
    assert all(1 <= entry["noc"] <= 3 and 0 <= entry["iou_at_1"] <= 1 for entry in entries)
    assert "validation: NoC@85" in said
    assert checkpoints.describe(run / BEST)["network"] == "simpleclick_vit_xtiny"
    whole = open_reader("coco", str(tmp_path / "own"))
    training = HoldOut(reader=whole, fraction=0.3, side="training").items()
    assert 0 < len(training) < 12
    assert f"on {len(training)} images" in said


def test_inconsistent_settings_are_refused() -> None:
    with pytest.raises(InputError, match=r"give --validation\.hold-out"):
        TrainConfig(before_after=BeforeAfterConfig(objects=4))
    with pytest.raises(InputError, match="objects is -1"):
        BeforeAfterConfig(objects=-1)
