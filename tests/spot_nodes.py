"""Run by test_spot_nodes: work on two Ray nodes of one machine, which are removed with or without notice and replaced.

`python -m tests.spot_nodes train|evaluate FOLDER SEED` does the work once undisturbed and once while nodes are removed,
in an order and at times that the seed determines, and compares the results.
"""

import dataclasses
import functools
import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from ray.cluster_utils import Cluster

from models import checkpoint as checkpoints
from pipeline.data.position import StreamPosition
from pipeline.data.readers import open_reader
from pipeline.data.sample import Item, Reader, Sample
from pipeline.evaluation import ray_evaluate
from pipeline.evaluation.config import EvaluationConfig, EvaluationScaling
from pipeline.evaluation.object_row import ObjectRow
from pipeline.training.config import ScalingConfig
from pipeline.training.job import HISTORY
from pipeline.training.ray_train import read_progress
from pipeline.training.record import read_photos
from tests.training.test_ray_train import SCENES, TRAINING, job_in, run
from tests.training.tiny import NAME, tiny_network

MEMORY = 150 * 2**20
STEPS = 80
TRAINED = ("drain", "drain", "kill")
EVALUATED = ("drain", "drain", "drain", "kill")
"""More than `RESTARTS` of main() on one of two actors, on any nodes."""
CALM = "calm"


class SpotNodes:
    """A head without CPUs and two nodes with two CPUs each, one of which is removed at a time."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": MEMORY})
        self.nodes = [self.add(), self.add()]
        self.calm = Path()
        """File to create once no more nodes will be removed."""
        self.cluster.wait_for_nodes()
        ray.init(address=self.cluster.address, logging_level=logging.ERROR, log_to_driver=False)

    def add(self) -> Any:
        return self.cluster.add_node(num_cpus=2, object_store_memory=MEMORY)

    def take_away(self, how: str, notice_s: int) -> None:
        """Kill one of the nodes, after a notice if it is drained, and add another one."""
        node = self.nodes.pop(int(self.rng.integers(2)))
        if how == "drain":
            command = (
                f"drain-node --address {self.cluster.address} --node-id {node.node_id} --reason "
                f"DRAIN_NODE_REASON_PREEMPTION --reason-message spot --deadline-remaining-seconds {notice_s}"
            )
            subprocess.run([sys.executable, "-m", "ray.scripts.scripts", *command.split()], check=True)
            ends = time.monotonic() + notice_s
            self.nodes.append(self.add())
            time.sleep(max(0.0, ends - time.monotonic()))
            self.cluster.remove_node(node, allow_graceful=False)
        else:
            self.cluster.remove_node(node, allow_graceful=False)
            self.nodes.append(self.add())

    def shut_down(self) -> None:
        ray.shutdown()
        self.cluster.shutdown()


def disturbed(
    nodes: SpotNodes, work: Callable[[], Any], hows: Sequence[str], notice_s: int, progress: Callable[[int], int]
) -> tuple[Any, list[tuple[str, int]]]:
    """Do the work while nodes are removed; return its result, and the progress at each removal.

    `progress(n)` is the progress since the work restarted after the n-th removal.
    """
    happened: list[tuple[str, int]] = []
    # Nodes must be started in the main thread, because of signals, so the work runs in another one.
    with ThreadPoolExecutor(1) as pool:
        working: Future[Any] = pool.submit(work)
        for how in nodes.rng.permutation(hows).tolist():
            until = int(nodes.rng.integers(2, 9))
            while progress(len(happened)) < until:
                assert not working.done(), f"it ended before {how}: {working.result()}"
                time.sleep(0.05)
            happened.append((how, progress(len(happened))))
            print(*happened[-1], f"at {time.monotonic():.0f} s", flush=True)
            nodes.take_away(how, notice_s)
        (nodes.calm).touch()
        return working.result(), happened


def pace(storage: str, step: int, metrics: dict[str, float]) -> None:
    """Log callable of rank 0 that is slow enough for nodes to be removed in the middle."""
    if not (Path(storage) / CALM).exists():
        time.sleep(0.6)


def runs_of(storage: Path) -> list[list[dict[str, float]]]:
    """Return the lines of a run's history, split where training restarted, which is where the step number falls."""
    runs: list[list[dict[str, float]]] = []
    history = storage / HISTORY
    for text in history.read_text().splitlines() if history.is_file() else []:
        line = json.loads(text)
        if not runs or line["step"] <= runs[-1][-1]["step"]:
            runs.append([])
        runs[-1].append(line)
    return runs


def train(nodes: SpotNodes, folder: Path) -> None:
    """Train with two workers, and allow as many failures as nodes that die without notice."""
    scaling = ScalingConfig(
        workers=2, cpus_per_worker=1.2, threads_per_worker=1, data_actors=1, cpus_per_data_actor=0.3,
        max_failures=TRAINED.count("kill"),
    )  # fmt: skip
    training = dataclasses.replace(TRAINING, steps=STEPS, checkpoint_every=STEPS)

    def in_folder(storage: Path) -> Path:
        return run(
            job_in(storage, scaling=scaling, training=training, log=functools.partial(pace, str(storage))), SCENES
        )

    for name in ("calm", "wild"):
        (folder / name).mkdir()
    (folder / "calm" / CALM).touch()
    calm = in_folder(folder / "calm")
    wild = folder / "wild"

    def progress(number: int) -> int:
        runs = runs_of(wild)
        return len(runs[number]) if len(runs) > number else 0

    nodes.calm = wild / CALM
    last, happened = disturbed(nodes, lambda: in_folder(wild), TRAINED, 15, progress)
    runs = [[int(line["step"]) for line in lines] for lines in runs_of(wild)]
    print("steps", *(f"{steps[0]}-{steps[-1]}" for steps in runs), flush=True)
    assert len(runs) == 1 + len(TRAINED)
    for (how, num_steps), steps, begun_again in zip(happened, runs, runs[1:], strict=False):
        # A checkpoint is written only on notice; without notice, the steps after the last one are lost.
        known = steps[0] + num_steps
        assert begun_again[0] >= known if how == "drain" else begun_again[0] <= known, (how, known, runs)

    losses = [{s["step"]: s["loss"] for lines in runs_of(folder / name) for s in lines} for name in ("calm", "wild")]
    assert sorted(losses[1]) == list(range(1, STEPS + 1))
    np.testing.assert_allclose(*[[by_step[n] for n in range(1, STEPS + 1)] for by_step in losses], rtol=1e-4)
    assert read_progress(last) == read_progress(calm)
    position = StreamPosition.from_json(read_progress(last)["position"])
    assert position.below + len(position.beyond) == STEPS * TRAINING.batch_size
    assert read_photos(last) == read_photos(calm)
    weights = [checkpoints.load(path, expected_network=NAME)[0].state_dict() for path in (calm, last)]
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-3, atol=1e-5)


@dataclass(frozen=True, kw_only=True)
class SlowReader:
    """A reader that is slow while nodes are removed, and records what it opens in a file."""

    reader: Reader
    log: str
    calm: str

    def items(self) -> Sequence[Item]:
        return self.reader.items()

    def load(self, item: Item) -> Sample:
        if not Path(self.calm).exists():
            time.sleep(1)
        with Path(self.log).open("a") as file:
            file.write(f"{item.id}\n")
        return self.reader.load(item)


def evaluate(nodes: SpotNodes, folder: Path) -> None:
    """Evaluate on two actors, each of which may also die once for another reason."""
    ray_evaluate.RESTARTS = 1
    checkpoint = checkpoints.save(tiny_network(), folder / "checkpoint")
    scenes = open_reader("scenes", options={"num_images": "25", "height": "64", "width": "64"})
    log = folder / "opened"

    def rows() -> list[ObjectRow]:
        (result,) = ray_evaluate.evaluate_on_ray(
            checkpoint=str(checkpoint),
            refinements={"standard": ray_evaluate.Refinement()},
            parts=[
                ray_evaluate.Part(
                    dataset="scenes",
                    reader=SlowReader(reader=scenes, log=str(log), calm=str(folder / CALM)),
                    config=EvaluationConfig(max_clicks=2),
                )
            ],
            scaling=EvaluationScaling(actors=2, num_cpus=1.2),
        )
        return result.rows["standard"]

    (folder / CALM).touch()
    calm = rows()
    opened = len(log.read_text().split())
    log.unlink()
    (folder / CALM).unlink()
    marks = [0]

    def progress(number: int) -> int:
        num = len(log.read_text().split()) if log.exists() else 0
        if len(marks) == number:
            marks.append(num)
        return num - marks[number]

    nodes.calm = folder / CALM
    result, _ = disturbed(nodes, rows, EVALUATED, 4, progress)
    assert result == calm
    again = len(log.read_text().split()) - opened
    print("opened", opened, "images, and", again, "again", flush=True)
    assert 0 <= again <= opened / 2  # the items in flight, if any


def main(what: str, folder: Path, seed: int) -> None:
    nodes = SpotNodes(seed)
    try:
        {"train": train, "evaluate": evaluate}[what](nodes, folder)
        print("the same", flush=True)
    finally:
        nodes.shut_down()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
