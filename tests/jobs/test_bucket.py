"""Every job reads and writes a bucket, and leaves no files of a run on the machines."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import average, compare, evaluate, export, prepare, sweep, train
from models import checkpoint as checkpoints
from models.errors import InputError
from models.lease import NAME, held
from models.storage import Storage
from pipeline.training.history import read_history
from tests.bucket import a_bucket
from tests.jobs.test_end_to_end import TRAIN

SMALL = ["num_images", "8", "height", "64", "width", "64"]
PLAY = ["--protocol.max-clicks", "2", "--protocol.max-objects", "4"]
SPARING = ["--scaling.actors", "1", "--scaling.num-cpus", "0.5"]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with a_bucket() as address:
        yield address.replace("key:secret@", "")


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_the_jobs_read_and_write_a_bucket(
    bucket: str, ray_cluster: None, tmp_path: Path, mlflow_uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run, played, swept = (bucket.format(folder=f"jobs/{name}") for name in ("data", "run", "played", "swept"))
    assert prepare.main(["--reader", "scenes", "--split", "train", "--options", *SMALL, "--out", data]) == 0

    flags = ["--data.reader", "prepared", "--data.root", data, "--validation.hold-out", "0.3"]
    flags += ["--validation.objects", "2", "--validation.max-clicks", "1", "--before-after.objects", "0"]
    flags += ["--training.checkpoint-every", "3"]
    start = TRAIN.index("--data.options")
    argv = [*TRAIN[:start], *TRAIN[start + 1 + len(SMALL) :], *flags]
    capsys.readouterr()
    assert train.main([*argv, "--out", run]) == 0
    said = capsys.readouterr().out
    assert f"checkpoint  {Storage(run).path('checkpoint')}" in said
    assert "step 3/3  loss " in said
    assert "best by NoC s3://masks/jobs/run/best" in said
    assert [entry["step"] for entry in read_history(Storage(run).below("ray/history.jsonl").uri)] == [1, 2, 3]
    for folder in ("checkpoint", "best"):
        assert checkpoints.load(Storage(run).below(folder).uri)[1]["network"] == "simpleclick_vit_xtiny"
    assert not Storage(run).exists(NAME)
    # The run is finished: --resume finds that, and another config is refused.
    assert train.main(["--resume", run, "--data.root", data]) == 0
    assert "resuming the run in s3://masks/jobs/run\n" in capsys.readouterr().out
    with pytest.raises(InputError, match="s3://masks/jobs/run holds a run with another config"):
        train.main([*argv, "--out", run, "--training.steps", "4"])

    ours = ["--checkpoint", Storage(run).below("checkpoint").uri, "--reader", "prepared", "--root", data]
    assert evaluate.main([*ours, *PLAY, *SPARING, "--refine", "standard", "cfr_1", "--out", played]) == 0
    assert "report  s3://masks/jobs/played/report.html" in capsys.readouterr().out
    written = ["clicks.csv", "objects.csv", "objects.parquet", "report.html", "summary.json"]
    assert Storage(played).names("", "") == written
    assert compare.main([played, played, "--refine-a", "standard", "--refine-b", "cfr_1", "--out", played]) == 0
    assert "A s3://masks/jobs/played standard on data" in capsys.readouterr().out
    assert Storage(played).exists("compare.html")

    assert sweep.main(["cascade", *ours, *PLAY, *SPARING, "--trials", "2", "--out", swept]) == 0
    assert "best        s3://masks/jobs/swept/best.json" in capsys.readouterr().out
    assert Storage(swept).read_json("best.json")
    journal = Storage(swept).names("journal.jsonl", "")
    assert journal
    assert json.loads(Storage(swept).read(journal[0]).splitlines()[0])["settings"]

    mean = bucket.format(folder="jobs/mean")
    assert average.main([ours[1], ours[1], "--out", mean]) == 0
    assert checkpoints.describe(mean)["info"]["mean_of"]
    with pytest.raises(InputError, match=re.escape("--out s3://masks/jobs/mean exists and is not an empty folder")):
        export.main(["--checkpoint", ours[1], "--as", "half", "--out", mean])
    half = bucket.format(folder="jobs/half")
    assert export.main(["--checkpoint", ours[1], "--as", "half", "--out", half]) == 0
    assert checkpoints.load(half)[0].name == "simpleclick_vit_xtiny"
    left = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*")}
    assert not [name for name in left if "s3" in name or name in ("jobs", "run")]
    assert "secret" not in said


@pytest.mark.networks
def test_two_jobs_do_not_write_one_folder(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.lease.RENEWED", 0.2)
    monkeypatch.setattr("models.lease.PATIENCE", 1.0)
    for place in (str(tmp_path / "run"), bucket.format(folder="held")):
        with held(place), pytest.raises(InputError, match=r"is being written by process \d+ on \S+"), held(place):
            pass
        assert not Storage(place).exists(NAME)
        with held(place):
            pass
    # A killed holder no longer renews its lease.
    storage = Storage(bucket.format(folder="left"))
    storage.write_json(NAME, {"host": "another", "pid": 1, "token": "x", "beat": 7})
    with held(storage.uri):
        assert storage.read_json(NAME)["token"] != "x"
