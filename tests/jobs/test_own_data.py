"""Training on your own images: samples without an object, and photos that a checkpoint was trained on."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs import compare, evaluate, train
from jobs.cli import as_dict
from jobs.config import BeforeAfterConfig, NetworkChoice, TrainConfig
from jobs.presets import PRESETS
from models import checkpoint as checkpoints
from models.errors import InputError
from models.fingerprints import fingerprint, trained_on
from tests.pipeline.small_data import box, picture, save
from tests.training.tiny import tiny_network

SIDES = (5, 5, 24, 24)
HW = (48, 48)


def own_photos(root: Path, numbers: range, sides: tuple[int, ...] = SIDES) -> Path:
    """Write numbered photos of noise, each with one square; `sides` are used in turn."""
    for number in numbers:
        side = sides[number % len(sides)]
        save(picture(number, HW), root / "images" / f"photo {number}.png")
        save(box(12, 10, side, side, HW).astype(np.uint8) * 255, root / "masks" / f"photo {number}.png")
    return root


def settings(root: Path, out: Path, preset: str = "cpu_xtiny", **data: Any) -> TrainConfig:
    config = PRESETS[preset]()
    changed = dataclasses.replace(config.data, reader="masks", root=str(root), crop_hw=(32, 32), **data)
    return dataclasses.replace(config, data=changed, out=str(out))


def test_a_resumed_run_keeps_its_minimum_area(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, out = own_photos(tmp_path / "own", range(8), (30, 34)), tmp_path / "run"
    checked = train.check(settings(root, out))
    assert (
        f"objects of fewer than {checked.data.floor} pixels after augmentation are not used as targets"
        in capsys.readouterr().out
    )
    assert checked.data.max_auto_area == 1000  # back to the default
    out.mkdir()
    saved = {"run_id": "1", "preset": "cpu_xtiny", "config": as_dict(checked)}
    (out / "config.json").write_text(json.dumps(saved))
    own_photos(root, range(8, 40), (8,))
    assert train.check(settings(root, tmp_path / "another")).data.floor < checked.data.floor
    again = train.check(settings(root, out))
    assert as_dict(again) == as_dict(checked)
    assert train.check(train.resumed(["--resume", str(out)])[1]) == again
    # A run of an older version stores the minimum area of its preset.
    saved["config"]["data"]["min_object_area"] = 300
    del saved["config"]["data"]["max_auto_area"]
    (out / "config.json").write_text(json.dumps(saved))
    assert train.check(settings(root, out)).data == dataclasses.replace(checked.data, min_object_area=300)


def test_an_explicit_minimum_area_is_kept(tmp_path: Path) -> None:
    root = own_photos(tmp_path / "own", range(4))
    for given in (0, 17, 5000):
        data = train.check(settings(root, tmp_path / "run", min_object_area=given)).data
        assert data.min_object_area == given
        assert data.max_auto_area == 1000


def test_the_minimum_area_of_before_and_after_follows_the_data(tmp_path: Path) -> None:
    checkpoints.save(tiny_network(), tmp_path / "start")
    for sides, least in (((7,), 49), ((40,), 300), ((3,), 20)):
        root, out = own_photos(tmp_path / f"{sides}", range(20), sides), tmp_path / f"run {sides}"
        config = settings(root, out, "finetune")
        config = dataclasses.replace(
            config, network=NetworkChoice(name="", start_from=str(tmp_path / "start"), fresh=False)
        )
        checked = train.check(config)
        assert checked.before_after.min_area == least
        given = dataclasses.replace(config, before_after=BeforeAfterConfig(objects=4, min_area=11))
        assert train.check(given).before_after.min_area == 11
        out.mkdir()
        plain = as_dict(checked)
        plain["before_after"]["min_area"] = 299
        (out / "config.json").write_text(json.dumps({"run_id": "1", "preset": "finetune", "config": plain}))
        assert train.check(config).before_after.min_area == 299


ARGUMENTS = [
    *("demo", "--data.reader", "masks", "--data.crop-hw", "32", "32", "--data.augment.scale", "1", "1"),
    *(
        "--data.window-size",
        "4",
        "--data.min-object-area",
        "100",
        "--training.steps",
        "10",
        "--training.batch-size",
        "8",
    ),
    *("--training.log-every", "2", "--scaling.cpus-per-worker", "0.5", "--scaling.cpus-per-data-actor", "0.3"),
    *("--scaling.data-actors", "1"),
]


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_a_run_counts_empty_samples_leaves_photos_out_and_knows_its_own(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = own_photos(tmp_path / "own", range(10))
    own_photos(tmp_path / "measured", range(8, 12), (24,))
    before = {7, 2**64 - 1}
    checkpoints.save(tiny_network(), tmp_path / "start", refinement="standard", photos=before)
    argv = [*ARGUMENTS, "--data.root", "own", "--data.leave-out", "masks=measured", "--network.start-from", "start"]
    assert train.main([*argv, "--out", "run"]) == 0
    said = capsys.readouterr().out
    run = tmp_path / "run"

    # Half of the photos show only objects of 25 pixels.
    samples = json.loads((run / "samples.json").read_text())
    assert samples["samples"] == 80
    assert 32 <= samples["without_object"] <= 48
    share = samples["without_object"] / 80
    history = [json.loads(line) for line in (run / "ray" / "history.jsonl").read_text().splitlines()]
    assert [entry["samples"] for entry in history] == [16] * 5
    assert np.mean([entry["without_object"] for entry in history]) == pytest.approx(share)
    assert f"samples     80, {samples['without_object']} of them without an object" in said
    (warning,) = [line for line in said.splitlines() if "show no object, and 5% are expected" in line]
    assert warning.startswith("warning: ")
    assert "--data.min-object-area" in warning
    lines = [line for line in said.splitlines() if line.startswith("step ")]
    assert any("  without object " in line for line in lines)

    # Photos to measure on are left out, by content.
    config = json.loads((run / "config.json").read_text())["config"]
    assert config["data"]["leave_out"] == [f"masks={tmp_path / 'measured'}"]
    refused = json.loads((run / "refused.json").read_text())
    assert {text.split(": ")[0] for text in refused} == {"photo 8", "photo 9"}
    assert all("left out" in text for text in refused)

    # Photos are recorded by name in the run, and by content in the checkpoint, which also has those of the start.
    photos = {f"photo {n}": fingerprint(picture(n, HW)) for n in range(8)}
    assert samples["photos"] == {item: f"{number:016x}" for item, number in photos.items()}
    assert trained_on(checkpoints.describe(run / "checkpoint")) == before | set(photos.values())

    # Evaluate on three of these photos, with other file names, and on two new ones.
    held = own_photos(tmp_path / "held", range(20, 22), (24,))
    for number in (2, 3, 6):
        with Image.open(root / "images" / f"photo {number}.png") as image:
            image.save(held / "images" / f"other {number}.bmp")
        shutil.copyfile(root / "masks" / f"photo {number}.png", held / "masks" / f"other {number}.png")
    shutil.copytree(run / "checkpoint", tmp_path / "copy")
    argv = ["--checkpoint", "copy", "--reader", "masks", "--root", "held", "--out", "evaluated"]
    argv += ["--refine", "standard", "--baseline", "grabcut", "--protocol.max-clicks", "2", "--num-overlays", "0"]
    assert evaluate.main([*argv, "--scaling.actors", "1", "--scaling.num-cpus", "0.5"]) == 0
    said = capsys.readouterr().out
    known = "the checkpoint was trained on 3 of the photos of held (3 of 5 objects): other 2, other 3, other 6"
    assert said.count(f"warning: {known}; ") == 1
    assert known in (tmp_path / "evaluated" / "report.html").read_text()
    grabcut, standard = json.loads((tmp_path / "evaluated" / "summary.json").read_text())
    assert "trained_on" not in grabcut
    assert standard["trained_on"] == {"photos": 3, "objects": 3, "items": ["other 2", "other 3", "other 6"]}
    assert compare.main(["evaluated", "evaluated", "--refine-a", "grabcut", "--refine-b", "standard"]) == 0
    said = capsys.readouterr().out
    assert f"warning: B: {known}" in said
    assert "warning: A" not in said


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_data_without_targets_is_refused_before_a_run_starts(ray_cluster: None, tmp_path: Path) -> None:
    own_photos(tmp_path / "own", range(8), (7,))
    with pytest.raises(InputError, match=r"none of the first 64 samples shows an object: .* to 49 pixels"):
        train.main([*ARGUMENTS, "--data.root", "own", "--out", "run"])
    assert not (tmp_path / "run").exists()
