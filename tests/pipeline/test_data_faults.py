"""Faults of the data stream when a worker, a node, a disk or a bucket really disappears."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import InputError
from models.storage import Storage
from pipeline.data import local, ray_data
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.data.prepared.prepare import prepare, run_here
from pipeline.data.readers import open_reader
from pipeline.data.rows import Row, split
from pipeline.data.sample import Item, Sample
from tests.pipeline.fakes import FakeReader
from tests.pipeline.two_nodes import CONFIG, NUM_WINDOWS, READER, digest
from tests.small_disk import SmallDisk

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def expected() -> list[str]:
    rows = local.stream(READER, CONFIG)
    return [digest(row) for row in rows_of_windows(rows, NUM_WINDOWS)]


def rows_of_windows(rows: Iterator[Row], num: int) -> Iterator[Row]:
    for row in rows:
        if row["window"] >= num:
            return
        yield row


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "NO_ALBUMENTATIONS_UPDATE": "1", **more}


@dataclass(frozen=True, kw_only=True)
class Telling(FakeReader):
    """A reader that records the processes in which it reads, as a file per process in `folder`."""

    folder: str

    def load(self, item: Item) -> Sample:
        (Path(self.folder) / str(os.getpid())).touch()
        return super().load(item)


@dataclass(frozen=True, kw_only=True)
class Counting(FakeReader):
    """A reader that writes a file for every image it opens."""

    folder: str

    def load(self, item: Item) -> Sample:
        (Path(self.folder) / str(time.time_ns())).touch()
        return super().load(item)


@pytest.mark.ray
@pytest.mark.slow
def test_a_worker_killed_in_the_middle_of_an_epoch_changes_no_row(
    ray_cluster: None, expected: list[str], tmp_path: Path
) -> None:
    reader = Telling(**{**vars(READER), "folder": str(tmp_path)})
    stream = ray_data.dataset(reader, CONFIG, range(NUM_WINDOWS), actors=2)
    found, killed = [], set[int]()
    for number, batch in enumerate(stream.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0)):
        found += [digest(row) for row in split(batch)]
        if number in (2, 5):
            victim = min({int(path.name) for path in tmp_path.iterdir()} - killed)
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)
    assert len(killed) == 2
    assert len(list(tmp_path.iterdir())) > 2  # other workers replaced them
    assert found == expected


@pytest.mark.ray
@pytest.mark.slow
def test_waiting_samples_stay_within_their_memory(ray_cluster: None, tmp_path: Path) -> None:
    config = DataConfig(crop_hw=(448, 448), window_size=4, min_object_area=20)  # 4 MB a window
    made = {}
    for limit in (0, 24 * 2**20):
        (folder := tmp_path / str(limit)).mkdir()
        reader = Counting(num_items=4, hw=(448, 448), folder=str(folder))
        stream = ray_data.dataset(reader, config, range(60), actors=2, memory_bytes=limit)
        batches = iter(stream.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0))
        next(batches)
        time.sleep(8)  # a training that has stopped requesting batches
        made[limit] = len(list(folder.iterdir())) / 4
        del batches, stream
    assert made[24 * 2**20] <= 12
    assert made[0] > 1.5 * made[24 * 2**20]


@pytest.mark.slow
@pytest.mark.parametrize("fate", ["keep", "kill"])
def test_two_nodes_give_the_rows_of_one_even_if_one_dies(fate: str, expected: list[str], tmp_path: Path) -> None:
    (tmp_path / "ray").mkdir()
    command = [sys.executable, "-m", "tests.pipeline.two_nodes", fate]
    done = subprocess.run(
        command, env=environment(RAY_AUTH_MODE="disabled"), capture_output=True, text=True, timeout=240, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line for line in done.stdout.splitlines() if line[:1].isdigit()]
    assert lines == expected
    assert ("killed" in done.stdout) == (fate == "kill")
    assert f"nodes 2 {1 if fate == 'kill' else 2}" in done.stdout


def test_one_corrupt_row_in_a_hundred_is_refused_and_counted(tmp_path: Path) -> None:
    reader = FakeReader(num_items=200, bad=(17,), broken=(120,))
    manifest = prepare(reader, Storage(str(tmp_path)), {}, run=run_here(), items_per_part=50)
    assert (manifest["num_rows"], manifest["num_refused"]) == (198, 2)
    config = DataConfig(crop_hw=(32, 40), window_size=20, min_object_area=20)
    rows = list(islice(local.stream(reader, config), 200))
    assert [int(row["index"]) for row in rows] == list(range(200))
    assert sorted(row["refused"].split(":")[0] for row in rows if row["refused"]) == ["item0017", "item0120"]
    assert {"item0017", "item0120"}.isdisjoint(row["item"] for row in rows)


def prepare_command(out: str, num_images: int) -> list[str]:
    command = [sys.executable, "-m", "jobs.prepare", "--reader", "scenes", "--out", out, "--images-per-shard", "8"]
    return [*command, "--options", "num_images", str(num_images), "height", "128", "width", "128"]


def run_prepare(out: str, num_images: int) -> "subprocess.CompletedProcess[str]":
    command = prepare_command(out, num_images)
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120, cwd=ROOT)


@pytest.mark.slow
def test_a_full_disk_is_one_clear_error_and_the_run_resumes_when_there_is_room(small_disk: SmallDisk) -> None:
    disk = small_disk.path
    stopped = run_prepare(str(disk), 96)
    assert stopped.returncode == 2, stopped.stderr[-3000:]
    errors = [line for line in stopped.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "No space left on device" in errors[0]
    assert "run the same command again" in errors[0]
    assert "Traceback" not in stopped.stderr
    recorded = {path.stem for path in disk.glob("records/*.json")}
    kept = {path: path.stat().st_mtime_ns for path in disk.glob("data/*.parquet") if path.stem in recorded}
    assert kept
    assert not list(disk.rglob("*.part"))
    small_disk.leave(40 * 2**20)
    done = run_prepare(str(disk), 96)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(open_reader("prepared", str(disk)).items()) == 96
    finished = [path for path in kept if (disk / "records" / f"{path.stem}.json").stat().st_mtime_ns < time.time_ns()]
    assert finished
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())


@pytest.fixture
def s3_server() -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """A real S3 server in a separate process, with the bucket `masks`."""
    import boto3

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
    )
    for _ in range(100):
        try:
            client.create_bucket(Bucket="masks")
            break
        except Exception:  # not up yet
            time.sleep(0.1)
    yield port, server
    server.kill()
    server.wait()


@pytest.mark.slow
def test_a_bucket_that_vanishes_is_one_clear_error(s3_server: tuple[int, Any]) -> None:
    port, server = s3_server
    uri = f"s3://key:secret@masks/set?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    command = [
        sys.executable,
        "-u",
        "-m",
        "jobs.prepare",
        "--reader",
        "scenes",
        "--out",
        uri,
        "--images-per-shard",
        "4",
    ]
    command += ["--options", "num_images", "400", "height", "128", "width", "128"]
    job = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert job.stdout is not None
    for line in job.stdout:
        if line.startswith("shards: "):
            server.kill()
            break
    _, errors = job.communicate(timeout=200)
    assert job.returncode == 2, errors[-3000:]
    said = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert "s3://masks/set/" in said[0]
    assert "run the same command again" in said[0]
    assert "secret" not in said[0]


@pytest.mark.slow
def test_an_unreachable_bucket_is_an_error_at_once() -> None:
    uri = "s3://key:secret@masks/set?endpoint_override=127.0.0.1:9&scheme=http&region=us-east-1"
    with pytest.raises(InputError, match="s3://masks/set"):
        open_reader("prepared", uri)


def test_digests_distinguish_rows() -> None:
    row: Row = {"index": np.int64(3), "image": np.zeros((2, 2), np.uint8)}
    assert digest(row) != digest({**row, "image": np.eye(2, dtype=np.uint8)})
    assert digest(row) == digest({"image": np.zeros((2, 2), np.uint8), "index": np.int64(3)})


def test_the_compared_stream_has_copy_paste() -> None:
    assert CONFIG.copy_paste == CopyPasteConfig(recipe="three_gates")
