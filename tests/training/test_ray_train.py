"""Training on Ray Train, compared with the same run without Ray: equal weights, bit for bit, whatever dies."""

import dataclasses
import functools
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from models import checkpoint as checkpoints
from models.errors import InputError
from models.networks.base import Network
from pipeline.data.position import StreamPosition
from pipeline.data.readers import open_reader
from pipeline.data.sample import Reader
from pipeline.ray_refusals import Refusals
from pipeline.training.config import OptimizerConfig, ScalingConfig, TrainingConfig
from pipeline.training.ray_train import (
    HISTORY,
    RUN,
    Job,
    newest_checkpoint,
    read_progress,
    train,
    with_small_cluster,
)
from tests.pipeline.fakes import FakeReader
from tests.pipeline.small_data import box, picture, save
from tests.training.tiny import DATA, NAME, OPTIONS, trained_without_ray

TRAINING = TrainingConfig(
    steps=6, batch_size=4, checkpoint_every=2, log_every=1, optimizer=OptimizerConfig(lr=1e-3, warmup_steps=3)
)
SCALING = ScalingConfig(workers=1, cpus_per_worker=0.5, threads_per_worker=1, data_actors=1, cpus_per_data_actor=0.3)
SCENES = open_reader("scenes", options={"num_images": "8", "height": "64", "width": "64"})


def job_in(storage: str | Path, **changes: Any) -> Job:
    defaults: dict[str, Any] = {
        "network": NAME,
        "network_options": OPTIONS,
        "start_from": None,
        "data": DATA,
        "training": TRAINING,
        "scaling": SCALING,
        "storage": str(storage),
        "info": {"refinement": "standard"},
    }
    return Job(**{**defaults, **changes})


def run(job: Job, reader: Reader = SCENES, mailbox: str = "") -> Path:
    return Path(train(job, reader, list(reader.items()), mailbox=mailbox))


def logged_steps(storage: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (storage / HISTORY).read_text().splitlines()]


def assert_equal_weights(folder: Path, expected: Network) -> None:
    network, _ = checkpoints.load(folder, expected_network=NAME)
    found = network.state_dict()
    assert found.keys() == expected.state_dict().keys()
    for key, value in expected.state_dict().items():
        assert torch.equal(found[key], value), key


def position_of(folder: Path) -> StreamPosition:
    return StreamPosition.from_json(read_progress(folder)["position"])


def kill_once(storage: str, at_step: int, whose: str, step: int, metrics: dict[str, float]) -> None:
    """Log callable of rank 0: once, at `at_step`, wait for a persisted checkpoint and SIGKILL a training worker."""
    marker = Path(storage) / "killed"
    if step != at_step or marker.exists():
        return
    snapshot = Path(storage) / RUN / "checkpoint_manager_snapshot.json"
    deadline = time.monotonic() + 60
    while not (snapshot.is_file() and "checkpoint_dir_name" in snapshot.read_text()):
        assert time.monotonic() < deadline, "no checkpoint was persisted"
        time.sleep(0.1)
    victim = os.getpid() if whose == "own" else sibling()
    marker.write_text(str(victim))
    os.kill(victim, signal.SIGKILL)
    if victim != os.getpid():
        time.sleep(2)


def sibling() -> int:
    """Find the process of the other training worker: a child of the same raylet with the same name."""
    import psutil

    me = psutil.Process()
    name = me.cmdline()[0].split("(")[0].split(".")[0]
    parent = me.parent()
    assert parent is not None
    others = [p for p in parent.children() if p.pid != me.pid and p.cmdline() and p.cmdline()[0].startswith(name)]
    assert len(others) == 1, [p.cmdline() for p in parent.children()]
    return others[0].pid


def ask_to_stop(mailbox: str, step: int, metrics: dict[str, float]) -> None:
    """Log callable of rank 0: validation has seen enough at step 3."""
    if step == 3:
        Refusals(mailbox).ask_to_end()


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_stopped_run_resumes_and_a_finished_run_does_not_change(ray_cluster: None, tmp_path: Path) -> None:
    stopped = run(job_in(tmp_path, log=functools.partial(ask_to_stop, "a run")), mailbox="a run")
    assert read_progress(stopped)["step"] == 4  # its next checkpoint
    assert logged_steps(tmp_path) == [1, 2, 3, 4]
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found[1] == 4

    last = run(job_in(tmp_path))
    assert logged_steps(tmp_path) == [1, 2, 3, 4, 5, 6]
    assert position_of(last) == StreamPosition(24)
    assert_equal_weights(last, trained_without_ray(SCENES, DATA, TRAINING))
    assert checkpoints.describe(last)["info"] == {"refinement": "standard", "step": 6, "refused": 0}
    assert {path.suffix for path in last.iterdir()} <= {".safetensors", ".json"}

    again = run(job_in(tmp_path))
    assert again == last
    assert logged_steps(tmp_path) == [1, 2, 3, 4, 5, 6]


@pytest.mark.check(46)
@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(240)
def test_a_killed_worker_does_not_change_the_result(ray_cluster: None, tmp_path: Path) -> None:
    last = run(job_in(tmp_path, log=functools.partial(kill_once, str(tmp_path), 4, "own")))
    assert (tmp_path / "killed").is_file()
    # Killed while it logged step 4; the checkpoint of step 2 was persisted, so steps 3 and 4 are repeated.
    assert logged_steps(tmp_path) == [1, 2, 3, 3, 4, 5, 6]
    assert position_of(last) == StreamPosition(24)
    assert_equal_weights(last, trained_without_ray(SCENES, DATA, TRAINING))


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_two_workers_share_the_stream_and_broken_images_are_reported(ray_cluster: None, tmp_path: Path) -> None:
    root = tmp_path / "data"
    for number in range(8):
        save(picture(number, (48, 48)), root / "images" / f"{number}.png")
        save(box(8, 8, 30, 30, (48, 48)).astype("uint8"), root / "masks" / f"{number}.png")
    broken = root / "images" / "5.png"
    broken.write_bytes(broken.read_bytes()[:200])
    reader = open_reader("masks", str(root))
    storage = tmp_path / "run"
    storage.mkdir()
    scaling = dataclasses.replace(SCALING, workers=2)
    last = run(job_in(storage, scaling=scaling), reader)
    assert logged_steps(storage) == [1, 2, 3, 4, 5, 6]
    position = position_of(last)
    assert position.below + len(position.beyond) == 24
    refused = read_progress(last)["refused"]
    assert len(refused) == 1
    ((text, count),) = refused.items()
    assert text.startswith("5: image 5.png: ")
    assert 1 <= count <= 3  # once an epoch
    assert checkpoints.describe(last)["info"]["refused"] == count


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_a_diverging_run_ends_with_advice_and_is_not_retried(ray_cluster: None, tmp_path: Path) -> None:
    wild = dataclasses.replace(TRAINING, optimizer=OptimizerConfig(lr=1e30, warmup_steps=0))
    with pytest.raises(InputError, match=r"loss .* at step 1: lower training\.optimizer\.lr"):
        run(job_in(tmp_path, training=wild))
    assert logged_steps(tmp_path) == [1]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(120)
def test_a_run_on_broken_images_only_ends_with_one_message(ray_cluster: None, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^none of the 4 items of window [^\n]*$"):
        run(job_in(tmp_path), FakeReader(num_items=4, bad=(0, 1, 2, 3)))


@pytest.mark.ray
@pytest.mark.timeout(120)
def test_a_stream_that_cannot_be_made_ends_the_run_with_one_message(ray_cluster: None, tmp_path: Path) -> None:
    scaling = dataclasses.replace(SCALING, cpus_per_data_actor=0.0)
    with pytest.raises(InputError, match=r"^num_cpus is 0\.0: expected a number above 0, such as 0\.2$"):
        run(job_in(tmp_path, scaling=scaling))


def find_no_room(step: int, metrics: dict[str, float]) -> None:
    """Log callable of rank 0: the tracker's disk is full."""
    raise RuntimeError("(sqlite3.OperationalError) database or disk is full\n[SQL: x]")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(120)
def test_a_full_disk_of_the_tracker_ends_the_run_with_one_message(ray_cluster: None, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^a disk is full \(.*database or disk is full\): make room and run the same"):
        run(job_in(tmp_path, log=find_no_room))
    assert not (tmp_path / HISTORY).exists()


@pytest.mark.check(46)
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_survives_the_kill_of_its_second_worker(ray_cluster: None, tmp_path: Path) -> None:
    job = job_in(tmp_path, scaling=dataclasses.replace(SCALING, workers=2))
    last = run(dataclasses.replace(job, log=functools.partial(kill_once, str(tmp_path), 4, "other")))
    assert (tmp_path / "killed").is_file()
    steps = logged_steps(tmp_path)
    assert sorted(set(steps)) == [1, 2, 3, 4, 5, 6]
    assert steps.count(3) == 2
    assert steps[-1] == 6
    position = position_of(last)
    assert position.below + len(position.beyond) == 24


def test_a_batch_that_does_not_divide_is_refused_before_anything_starts(tmp_path: Path) -> None:
    job = job_in(tmp_path, scaling=dataclasses.replace(SCALING, workers=3))
    with pytest.raises(InputError, match="batch_size 4 does not divide among 3 workers"):
        run(job)


@pytest.mark.parametrize(("num_cpus", "workers", "actors"), [(2, 1, 1), (2, 1, 4), (1, 1, 2), (4, 2, 4), (16, 4, 16)])
def test_reservations_leave_cpus_free(num_cpus: float, workers: int, actors: int) -> None:
    fitted = with_small_cluster(ScalingConfig(workers=workers, data_actors=actors), num_cpus)
    reserved = workers * fitted.cpus_per_worker + actors * fitted.cpus_per_data_actor
    assert reserved <= max(0.9 * num_cpus, num_cpus - 1)
    assert (fitted.workers, fitted.data_actors) == (workers, actors)


def test_reservations_stay_the_same_on_a_large_cluster() -> None:
    scaling = ScalingConfig(workers=2, data_actors=4)
    assert with_small_cluster(scaling, 16) is scaling
