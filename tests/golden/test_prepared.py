"""Golden prepared data sets: they have the same pixels and masks, and an interrupted preparation resumes."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from jobs import augment, prepare
from models.storage import Storage
from pipeline.data.prepared.epoch import read_rows
from pipeline.data.readers import open_reader
from tests.golden import commands, lists
from tests.golden.asking import lost
from tests.golden.growing import gone


@pytest.mark.parametrize("name", ["prepared", "prepared_mois", "epoch"])
def test_prepared_data_set_reads_as_before(golden: Path, name: str) -> None:
    known = json.loads((golden / "prepared.json").read_text())[name]
    assert len(known) >= 4
    found = commands.contents(golden / name)
    assert lost(known, json.loads(json.dumps(found))) == []


def test_rows_of_an_epoch_are_read(golden: Path) -> None:
    rows = list(read_rows(Storage(str(golden / "epoch"))))
    assert [int(row["index"]) for row in rows] == [0, 1, 2, 3]
    assert all(row["clicks_valid"].any() for row in rows)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (folder / "data").iterdir()}


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_interrupted_preparation_resumes(
    ray_cluster: None, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "preparing"
    shutil.copytree(golden / "preparing", out)
    before = digests(out)
    assert len(before) == 2
    command = [*commands.prepare(), "--actors", "1", "--num-cpus", "0.3", "--out", str(out)]
    assert prepare.main(command) == 0
    said = capsys.readouterr().out
    assert "shards: 4/4  4 rows" in said, "two shards of two rows were made, not all four"
    assert before.items() <= digests(out).items()
    reader, source = open_reader("prepared", str(out)), open_reader("scenes", options=options())
    for item, scene in zip(reader.items(), source.items(), strict=True):
        assert (reader.load(item).image == source.load(scene).image).all()
    known = json.loads((golden / "lists.json").read_text())
    assert gone(known["keys"]["manifest.json"], lists.keys(out / "manifest.json")["manifest.json"]) == []
    assert gone(known["columns"]["prepared"]["part.parquet"], lists.columns(out)["part.parquet"]) == []
    # The same command once more finds it finished.
    assert prepare.main(command) == 0
    assert "shards:" not in capsys.readouterr().out


def options() -> dict[str, str]:
    return dict(zip(commands.SCENES[::2], commands.SCENES[1::2], strict=True))


@pytest.mark.ray
@pytest.mark.timeout(180)
def test_finished_epoch_is_recognised_by_its_command(
    ray_cluster: None, golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(golden / "epoch", tmp_path / "epoch")
    few = ["--actors", "1", "--num-cpus", "0.3"]
    assert augment.main([*commands.augment(), *few, "--out", str(tmp_path / "epoch")]) == 0
    assert "shards:" not in capsys.readouterr().out, "nothing is made again"
    assert digests(tmp_path / "epoch") == digests(golden / "epoch")
    assert augment.main([*commands.augment(), *few, "--out", str(tmp_path / "new")]) == 0
    known = json.loads((golden / "lists.json").read_text())["columns"]["epoch"]["part.parquet"]
    assert gone(known, lists.columns(tmp_path / "new")["part.parquet"]) == []
    assert lost(commands.contents(golden / "epoch"), commands.contents(tmp_path / "new")) == []
