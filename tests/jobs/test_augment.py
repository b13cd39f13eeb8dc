"""jobs.augment and jobs.prepare from their command lines, on generated scenes."""

import json
import re
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from jobs import augment, prepare
from jobs.prepare import CountItems
from jobs.presets import PRESETS
from models.errors import InputError
from models.storage import Storage
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.data.local import stream
from pipeline.data.prepared.epoch import read_rows
from pipeline.data.readers import open_reader
from tests.pipeline.test_stream import equal

SCENES = {"num_images": "10", "height": "64", "width": "64"}
OPTIONS = [word for pair in SCENES.items() for word in pair]
DATA = [
    *("--data.reader", "scenes", "--data.options", *OPTIONS),
    *("--data.crop-hw", "32", "32", "--data.window-size", "4", "--data.min-object-area", "20"),
]
POOL = ["--actors", "2", "--num-cpus", "0.4"]
CONFIG = DataConfig(
    options=SCENES,
    crop_hw=(32, 32),
    window_size=4,
    min_object_area=20,
    copy_paste=CopyPasteConfig(recipe="exclusive"),
)


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_an_epoch_is_written_as_training_would_see_it(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*DATA, *POOL, "--out", "epoch", "--epoch", "1", "--windows-per-shard", "1", "--rows-per-group", "3"]
    assert augment.main(argv) == 0
    said = capsys.readouterr().out
    assert "shards: 2/2  10 rows" in said
    assert f"report  {tmp_path / 'epoch' / 'report.html'}" in said
    wanted = list(islice(stream(open_reader("scenes", options=SCENES), CONFIG, 10), 10))
    found = list(read_rows(Storage("epoch")))
    assert len(found) == 10
    assert all(equal(a, b) for a, b in zip(found, wanted, strict=True))
    manifest = json.loads((tmp_path / "epoch" / "manifest.json").read_text())
    assert manifest["settings"]["data"]["copy_paste"]["recipe"] == "exclusive"
    assert sum(count for name, count in manifest["counts"].items() if name.startswith("mode ")) == 10
    for name, count in manifest["counts"].items():
        assert f"  {name:<24} {count}\n" in said
    written = {path.name for path in (tmp_path / "epoch").iterdir()}
    assert written == {"data", "records", "settings.json", "manifest.json", "refused.txt", "report.html"}

    # The same command again makes nothing; other settings are refused.
    shards = {path: path.stat().st_mtime_ns for path in (tmp_path / "epoch" / "data").iterdir()}
    assert augment.main(argv) == 0
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "epoch" / "data").iterdir()} == shards
    with pytest.raises(InputError, match="has other settings"):
        augment.main([*argv, "--image-format", "jpg"])

    # The epoch is a data set for the other jobs.
    capsys.readouterr()
    assert prepare.main(["--reader", "prepared", "--root", "epoch", "--out", "again", *POOL]) == 0
    said = capsys.readouterr().out
    assert "again: 10 images, 10 objects" in said
    assert "listed 10 images" in said
    assert "report  " in said
    assert "prepared " in (tmp_path / "again" / "report.html").read_text()


@pytest.mark.networks
def test_a_preview_needs_no_ray_and_writes_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.ray_env.connected", lambda: pytest.fail("Ray was started"))
    recipe = ["--data.copy-paste.recipe", "three_gates"]
    assert augment.main(["demo", *DATA, *recipe, "--preview", "2", "--out", "look"]) == 0
    assert {path.name for path in (tmp_path / "look").iterdir()} == {"preview.jpg", "preview.html"}
    said = capsys.readouterr().out
    page = (tmp_path / "look" / "preview.html").read_text()
    for mode in ("none", "simple", "union", "exclusion", "distract", "mixing", "several"):
        assert f"\n{mode:<10} " in said
        assert f"<h2>{mode}</h2>" in page
    assert f"{tmp_path / 'look' / 'preview.jpg'}" in said


def test_a_presets_data_settings_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[augment.AugmentJob] = []
    monkeypatch.setattr(augment, "preview", lambda job, reader, storage: seen.append(job) or 0)
    scenes = ["--data.reader", "scenes", "--preview", "1", "--out", "x"]
    for argv, preset in ((["demo", *scenes], "demo"), (["cpu_xtiny", *scenes], "cpu_xtiny"), (scenes, augment.DEFAULT)):
        augment.main(argv)
        data = PRESETS[preset]().data
        assert seen[-1].data == DataConfig(**{**vars(data), "reader": "scenes", "options": data.options})


def test_a_preview_prints_the_minimum_area_and_the_empty_samples(capsys: pytest.CaptureFixture[str]) -> None:
    scenes = ["--data.reader", "scenes", "--data.options", *OPTIONS, "--data.crop-hw", "32", "32"]
    look = ["--data.window-size", "4", "--preview", "1", "--out", "look"]
    assert augment.main(["cpu_xtiny", *scenes, *look, "--data.augment.scale", "0.5", "0.5"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"objects of fewer than \d+ pixels .* are not used as targets .*in 10 images\)", said)
    assert re.search(r"samples without an object: \d of \d+\n", said)
    assert augment.main(["demo", *scenes, *look, "--data.min-object-area", "9999"]) == 0
    said = capsys.readouterr().out
    (counts,) = re.findall(r"samples without an object: (\d+) of (\d+)", said)
    assert counts[0] == counts[1]


@pytest.mark.networks
def test_a_resumed_epoch_keeps_its_minimum_area(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict] = []

    def stop(storage: Storage, settings: dict) -> bool:
        seen.append(settings)
        raise InputError("seen")

    argv = ["cpu_xtiny", "--data.reader", "scenes", "--data.options", *OPTIONS, "--out", "epoch"]
    monkeypatch.setattr(augment, "finished", stop)
    with pytest.raises(InputError, match="seen"):
        augment.main(argv)
    assert 20 <= seen[0]["data"]["min_object_area"] <= 300
    (tmp_path / "epoch").mkdir()
    known = {**seen[0], "data": {**seen[0]["data"], "min_object_area": 300}}
    (tmp_path / "epoch" / "settings.json").write_text(json.dumps({"settings": known}))
    with pytest.raises(InputError, match="seen"):
        augment.main(argv)
    assert seen[1] == known
    with pytest.raises(InputError, match="seen"):
        augment.main([*argv, "--data.leave-out", "scenes/val"])
    assert seen[2]["data"]["leave_out"] == ["scenes/val"]


def test_help_names_the_presets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        augment.main(["--help"])
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert all(name in said for name in PRESETS)
    assert "--preview" in said


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (DATA, r"--out is missing: name the folder or the address \(s3://BUCKET/FOLDER\)"),
        ([*DATA, "--out", "x", "--epoch", "-1"], "--epoch is -1: expected a whole number >= 0"),
        ([*DATA, "--out", "x", "--preview", "-1"], "--preview is -1"),
        ([*DATA, "--out", "x", "--windows-per-shard", "0"], "--windows-per-shard is 0: expected a whole number >= 1"),
        ([*DATA, "--out", "x", "--num-cpus", "0"], "--num-cpus is 0.0: expected a number > 0"),
        ([*DATA, "--out", "s3://"], "names no folder|cannot be opened"),
        (["dem", *DATA, "--out", "x"], "unknown preset 'dem'; did you mean 'demo'"),
        (["--out", "x"], "reader 'coco' needs a root folder"),
        (["--data.root", "absent", "--out", "x"], "absent' does not exist"),
        ([*DATA, "--out", "x", "--data.copy-paste.recipe", "exclusiv"], "did you mean 'exclusive'"),
    ],
)
def test_invalid_flags_are_reported(argv: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        augment.main(argv)
    assert not list(tmp_path.iterdir())


def test_a_value_that_is_not_a_number_is_reported_with_its_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        augment.main([*DATA, "--out", "x", "--epoch", "first"])
    assert ended.value.code == 2
    assert "--epoch" in capsys.readouterr().err


def test_a_key_in_an_address_stays_out_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everyone who can read the data can read its manifest."""
    written: list[dict] = []

    def stop(storage: Storage, settings: dict) -> bool:
        written.append(settings)
        raise InputError("seen")

    reader = open_reader("scenes", options=SCENES)
    monkeypatch.setattr(augment, "training_reader", lambda *given: reader)
    monkeypatch.setattr(prepare, "open_reader", lambda *given: reader)
    monkeypatch.setattr(augment, "finished", stop)
    monkeypatch.setattr("pipeline.data.prepared.prepare.finished", stop)
    address = "s3://KEY:SECRET@bucket/set?region=x"
    with pytest.raises(InputError, match="seen"):
        augment.main(["--data.reader", "prepared", "--data.root", address, "--out", "x"])
    from contextlib import nullcontext

    monkeypatch.setattr(prepare, "connected", nullcontext)
    with pytest.raises(InputError, match="seen"):
        prepare.main(["--reader", "prepared", "--root", address, "--out", "x"])
    assert len(written) == 2
    assert all("SECRET" not in json.dumps(settings) for settings in written)
    assert all("s3://bucket/set" in json.dumps(settings) for settings in written)


def test_a_long_listing_is_reported_at_each_doubling(capsys: pytest.CaptureFixture[str]) -> None:
    count = CountItems()
    for number in range(1, 5001):
        count(number)
    count.end()
    count.end()
    numbers = [int(line.split()[1]) for line in capsys.readouterr().out.splitlines()]
    assert numbers == [1000, 2000, 4000, 5000]
    assert np.all(np.diff(numbers) > 0)
