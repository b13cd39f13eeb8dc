"""Jobs on a full disk end with one error, status 2 and no partial files; with room, the same command finishes."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import cv2
import pytest
from PIL import Image

from jobs import compare, demo, evaluate, export, predict, prepare, sweep, train
from jobs.cli import run_job
from models import checkpoint as checkpoints
from pipeline.data.readers import open_reader
from tests.jobs.test_end_to_end import SMALL, TRAIN
from tests.ports import free_port
from tests.small_disk import SmallDisk
from tests.training.tiny import tiny_network

PAGE = 4096
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a job as its command line does; return the status and standard error."""

    def command(job: ModuleType, argv: list[str]) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [job.__name__, *argv])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run_job(job.main)
        assert isinstance(ended.value.code, int)
        return ended.value.code, capsys.readouterr().err

    return command


def refused(disk: SmallDisk, status: int, said: str) -> None:
    assert status == 2, said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    assert "No space left on device" in errors[0]
    assert "run the same command again" in errors[0]
    assert str(disk.path.parent) in errors[0]
    disk.check_whole()


def until_it_fits(disk: SmallDisk, rooms: list[int], command: Callable[[], tuple[int, str]]) -> Iterator[int]:
    """Run the command with more and more pages of room, yielding those that were too few, and last with enough."""
    for pages in rooms:
        disk.leave(pages * PAGE)
        status, said = command()
        if not status:
            break
        refused(disk, status, said)
        yield pages
    else:
        disk.leave(200 * 2**20)
        status, said = command()
    assert status == 0, said
    disk.check_whole()


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    network = tiny_network()
    network.get_parameter("head.conv_seg.weight").data.mul_(20)
    return str(checkpoints.save(network, tmp_path / "checkpoint"))


@pytest.fixture
def scene(tmp_path: Path) -> str:
    reader = open_reader("scenes", None, "test", {"num_images": "1", "height": "300", "width": "400"})
    assert cv2.imwrite(str(tmp_path / "scene.png"), reader.load(reader.items()[0]).image[..., ::-1])
    return str(tmp_path / "scene.png")


def test_predict(small_disk: SmallDisk, run: Run, checkpoint: str, scene: str) -> None:
    out = small_disk.path / "masks" / "m.png"
    argv = ["--checkpoint", checkpoint, "--image", scene, "--clicks", "90,90,+", "--out", str(out)]
    too_few = list(until_it_fits(small_disk, [0, 1, 2], lambda: run(predict, argv)))
    assert 0 in too_few
    assert sorted(path.name for path in out.parent.iterdir()) == ["m.png", "m_overlay.jpg"]
    with Image.open(out) as mask:
        assert (mask.size, mask.mode) == ((400, 300), "L")


@pytest.mark.parametrize("what", ["folder", "file above"])
def test_predict_refuses_an_out_that_cannot_be_a_file(
    what: str, run: Run, checkpoint: str, scene: str, tmp_path: Path
) -> None:
    (tmp_path / "m.png").mkdir()
    (tmp_path / "file").write_text("mine")
    out = tmp_path / "m.png" if what == "folder" else tmp_path / "file" / "m.png"
    argv = ["--checkpoint", checkpoint, "--image", scene, "--clicks", "90,90,+", "--out", str(out)]
    status, said = run(predict, argv)
    assert status == 2
    assert said.startswith(f"error: {out} cannot be written: ")
    assert said.rstrip().endswith("name a file" if what == "folder" else "choose another path")
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "m_overlay.jpg").exists()


def played(checkpoint: str, out: Path) -> list[str]:
    argv = ["--checkpoint", checkpoint, "--reader", "scenes", "--split", "val", "--options", *SMALL, "--out", str(out)]
    argv += ["--refine", "standard", "cfr_1", "--protocol.max-clicks", "3", "--protocol.max-objects", "6"]
    return [*argv, "--scaling.actors", "1", "--scaling.num-cpus", "0.5", "--num-overlays", "1"]


@pytest.mark.check(45)
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_evaluate_and_compare(ray_cluster: None, small_disk: SmallDisk, run: Run, checkpoint: str) -> None:
    out = small_disk.path / "evaluated"
    too_few = list(until_it_fits(small_disk, [0, 1, 4], lambda: run(evaluate, played(checkpoint, out))))
    assert {0, 1} <= set(too_few)  # before the journal, and within it
    assert len(json.loads((out / "summary.json").read_text())) == 2
    assert not (out / "journal.jsonl").exists()

    argv = [str(out), str(out), "--refine-a", "standard", "--refine-b", "cfr_1", "--out", str(small_disk.path / "c")]
    assert 0 in list(until_it_fits(small_disk, [0, 2], lambda: run(compare, argv)))
    assert sorted(path.name for path in (small_disk.path / "c").iterdir()) == ["compare.html", "compare.json"]


def raced(checkpoint: str, out: Path) -> list[str]:
    argv = ["cfr", "--checkpoint", checkpoint, "--reader", "scenes", "--options", *SMALL, "--out", str(out)]
    argv += ["--protocol.max-clicks", "3", "--protocol.max-objects", "6", "--scaling.actors", "1"]
    argv += ["--set", "refine.cascade.steps", "0,1", "refine.cascade.adaptive", "false"]
    argv += ["refine.cascade.on_first_clicks", "1", "refine.mask_threshold", "0.49"]
    return [*argv, "--scaling.num-cpus", "0.4"]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(400)
def test_sweep(ray_cluster: None, small_disk: SmallDisk, run: Run, checkpoint: str, tmp_path: Path) -> None:
    # There is room for everything except the journal, which the referee of the race writes.
    out = tmp_path / "raced"
    out.mkdir()
    (out / "journal.jsonl").symlink_to(small_disk.path / "journal.jsonl")
    small_disk.leave(PAGE)
    status, said = run(sweep, raced(checkpoint, out))
    assert "journal.jsonl cannot be written" in said
    refused(small_disk, status, said)
    small_disk.leave(2**20)
    assert run(sweep, raced(checkpoint, out))[0] == 0
    assert len(json.loads((out / "sweep.json").read_text())["settings"]) == 2


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sweep_on_a_disk_without_room(ray_cluster: None, small_disk: SmallDisk, run: Run, checkpoint: str) -> None:
    out = small_disk.path / "swept"
    assert 0 in list(until_it_fits(small_disk, [0, 20], lambda: run(sweep, raced(checkpoint, out))))
    assert len(json.loads((out / "sweep.json").read_text())["settings"]) == 2


@pytest.mark.ray
@pytest.mark.timeout(400)
def test_prepare(ray_cluster: None, small_disk: SmallDisk, run: Run) -> None:
    out = small_disk.path / "shards"
    argv = ["--reader", "scenes", "--options", *SMALL, "--out", str(out), "--images-per-shard", "2"]
    argv += ["--actors", "1", "--num-cpus", "0.3"]
    too_few = list(until_it_fits(small_disk, [0, 12], lambda: run(prepare, argv)))
    assert {0, 12} <= set(too_few)
    assert len(open_reader("prepared", str(out)).items()) == 6


@pytest.mark.networks
def test_export(small_disk: SmallDisk, run: Run, checkpoint: str) -> None:
    out = small_disk.path / "onnx"
    argv = ["--checkpoint", checkpoint, "--out", str(out)]
    assert 0 in list(until_it_fits(small_disk, [0], lambda: run(export, argv)))
    assert sorted(path.name for path in out.iterdir()) == ["export.json", "network.onnx"]


@pytest.mark.check(45)
@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_train(ray_cluster: None, small_disk: SmallDisk, run: Run) -> None:
    out = small_disk.path / "run"
    argv = [*TRAIN, "--out", str(out), "--scaling.max-failures", "0", "--validation.hold-out", "0.3"]
    argv += ["--validation.objects", "1", "--validation.max-clicks", "1"]
    # First no room at all, then not enough for the first checkpoint.
    assert list(until_it_fits(small_disk, [0, 2000], lambda: run(train, argv))) == [0, 2000]
    _, description = checkpoints.load(out / "checkpoint")
    assert description["info"]["step"] == 3


@pytest.mark.check(45)
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_demo(ray_cluster: None, small_disk: SmallDisk, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # for the server, a separate process
    argv = ["--out", str(small_disk.path / "demo"), "--steps", "1", "--objects", "2", "--no-serve"]
    argv += ["--port", str(free_port())]
    too_few = list(until_it_fits(small_disk, [0, 1, 2000, 4500], lambda: run(demo, argv)))
    assert {0, 1, 2000} <= set(too_few)
    assert (small_disk.path / "demo" / "report.html").is_file()
