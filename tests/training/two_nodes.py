"""Train on two Ray nodes of one machine, one of which dies or joins later; run by test_two_nodes.

`python -m tests.training.two_nodes STORAGE lose|gain WORLDS` prints the steps and how many workers made them, and notes
both in the file WORLDS; STORAGE is a path or an address.
"""

import dataclasses
import functools
import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from models.storage import joined
from pipeline.training.config import ScalingConfig
from pipeline.training.history import read_history
from pipeline.training.ray_train import HISTORY, newest_checkpoint, train
from tests.training.test_ray_train import SCENES, TRAINING, job_in

STEPS, SLOW = {"lose": 24, "gain": 60}, 0.5


def pace(worlds: str, step: int, metrics: dict[str, float]) -> None:
    """Log callable of rank 0: slow, so that a node dies in the middle; records the number of workers."""
    import torch.distributed as dist

    world = dist.get_world_size() if dist.is_initialized() else 1
    with Path(worlds).open("a") as file:
        file.write(f"{step} {world}\n")
    time.sleep(SLOW)


def main(storage: str, change: str, worlds: Path) -> None:
    """Train with one worker per node; remove or add a node once a checkpoint is persisted."""
    memory = 150 * 2**20
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": memory})

    def add() -> Any:
        return cluster.add_node(num_cpus=2, object_store_memory=memory)

    other = add() if change == "lose" else None
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    try:
        scaling = ScalingConfig(
            workers=1, max_workers=2, grow_every_s=2.0, cpus_per_worker=1.2, threads_per_worker=1,
            data_actors=1, cpus_per_data_actor=0.3,
        )  # fmt: skip
        training = dataclasses.replace(TRAINING, steps=STEPS[change], checkpoint_every=2)
        job = job_in(storage, scaling=scaling, training=training, log=functools.partial(pace, str(worlds)))

        def change_nodes() -> None:
            found = None
            while found is None or found[1] < 4:
                time.sleep(0.2)
                found = newest_checkpoint(storage)
            if change == "lose":
                cluster.remove_node(other, allow_graceful=False)
            else:
                add()
            print(change, "a node after step", found[1], flush=True)

        # Nodes need signals and start in the main thread, so training runs in another one.
        with ThreadPoolExecutor(1) as pool:
            training_ends = pool.submit(train, job, SCENES, list(SCENES.items()))
            change_nodes()
            training_ends.result()
        print(worlds.read_text(), flush=True)
        assert read_history(joined(storage, HISTORY))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
