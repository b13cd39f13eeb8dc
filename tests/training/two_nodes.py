"""Run by test_two_nodes: training on two Ray nodes of one machine, one of which dies; prints the steps and world sizes.

`python -m tests.training.two_nodes STORAGE`.
"""

import dataclasses
import functools
import logging
import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from pipeline.training.config import ScalingConfig
from pipeline.training.ray_train import HISTORY, newest_checkpoint
from tests.training.test_ray_train import SCENES, TRAINING, job_in, run

STEPS, SLOW = 24, 0.5


def pace(storage: str, step: int, metrics: dict[str, float]) -> None:
    """Log callable of rank 0: slow enough that a node dies in the middle; notes how many workers there are."""
    import torch.distributed as dist

    world = dist.get_world_size() if dist.is_initialized() else 1
    with (Path(storage) / "worlds").open("a") as file:
        file.write(f"{step} {world}\n")
    time.sleep(SLOW)


def main(storage: Path) -> None:
    """Train with one or two workers, one to a node, and take a node away once a checkpoint is safe."""
    memory = 150 * 2**20
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": memory})
    other = cluster.add_node(num_cpus=2, object_store_memory=memory)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, logging_level=logging.ERROR, log_to_driver=False)
    try:
        scaling = ScalingConfig(
            workers=1, max_workers=2, cpus_per_worker=1.2, threads_per_worker=1, data_actors=1, cpus_per_data_actor=0.3
        )
        training = dataclasses.replace(TRAINING, steps=STEPS, checkpoint_every=2)
        job = job_in(storage, scaling=scaling, training=training, log=functools.partial(pace, str(storage)))

        def kill() -> None:
            found = None
            while found is None or found[1] < 4:
                time.sleep(0.2)
                found = newest_checkpoint(storage)
            cluster.remove_node(other, allow_graceful=False)
            print("removed a node after step", found[1], flush=True)

        threading.Thread(target=kill, daemon=True).start()
        run(job, SCENES)
        print((storage / "worlds").read_text(), flush=True)
        assert (storage / HISTORY).is_file()
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
