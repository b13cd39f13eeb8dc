"""Run by test_data_faults: the stream on a cluster of two nodes, one of which dies halfway; prints the rows.

`python -m tests.pipeline.two_nodes kill|keep`: a digest of every row, in the order of arrival.
"""

import hashlib
import sys

import numpy as np
import ray
from ray.cluster_utils import Cluster

from pipeline.data import ray_data
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.data.rows import Row, split
from tests.pipeline.fakes import FakeReader

READER = FakeReader(num_items=60, bad=(7,))
CONFIG = DataConfig(
    crop_hw=(96, 96), window_size=8, min_object_area=20, copy_paste=CopyPasteConfig(recipe="three_gates")
)
NUM_WINDOWS = 28


def digest(row: Row) -> str:
    """Return a text that differs if any value of the row does."""
    parts = [f"{name}={np.asarray(row[name]).tolist()}" for name in sorted(row)]
    return f"{int(row['index'])} {hashlib.sha256(' '.join(parts).encode()).hexdigest()}"


def main(kill: bool) -> None:
    """Stream through two nodes of one CPU each, beside a head without CPUs for the actors."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 200 * 2**20})
    other = cluster.add_node(num_cpus=2, object_store_memory=200 * 2**20)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    try:
        rows = ray_data.dataset(READER, CONFIG, range(NUM_WINDOWS), actors=3, num_cpus=0.9)
        for number, batch in enumerate(rows.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0)):
            for row in split(batch):
                print(digest(row), flush=True)
            if kill and number == 3:
                cluster.remove_node(other, allow_graceful=False)
                print("killed", flush=True)
        print("nodes", len(ray.nodes()), sum(node["Alive"] for node in ray.nodes()))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(sys.argv[1] == "kill")
