"""Jobs on a cluster without workers: each job makes it grow, and the cluster shrinks when the job has ended."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.growing_cluster import Growing, growing

SMALL = ("--options", "num_images", "6", "height", "64", "width", "64")
PROTOCOL = ("--protocol.max-clicks", "2", "--protocol.min-area", "20", "--protocol.max-objects", "4")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Growing]:
    """Nodes for data have a custom resource, nodes for networks a label."""
    with growing({"data": {"resources": {"CPU": 2, "augment": 1}}, "network": {"resources": {"CPU": 2}}}) as cluster:
        yield cluster


def grown(cluster: Growing, nodes: set[str], *command: str) -> str:
    """Run a job on the empty cluster and check that it started nodes of exactly these types."""
    cluster.wait_for([], 90)
    done = cluster.run(*command)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert f"joined Ray at {cluster.address} (what `ray start` recorded on this machine)" in said
    assert set(cluster.started()) == nodes, said
    return said


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_every_job_makes_the_cluster_grow(cluster: Growing, tmp_path: Path) -> None:
    data = ("--reader", "scenes", *SMALL)
    ours = tuple(flag.replace("--options", "--data.options") for flag in SMALL)
    training = ("--data.crop-hw", "32", "32", "--data.window-size", "4", "--data.min-object-area", "20")
    grown(cluster, {"data"}, "jobs.prepare", *data, "--nodes", "augment", "--out", f"{tmp_path}/data")
    grown(
        cluster, {"data"}, "jobs.augment", "demo", *ours, *training, "--nodes", "augment", "--out", f"{tmp_path}/epoch"
    )
    said = grown(
        cluster, {"data", "network"}, "jobs.train", "demo", *ours, *training, "--training.steps", "2",
        "--training.batch-size", "4", "--scaling.data-nodes", "augment", "--scaling.nodes", "kind=network",
        "--scaling.cpus-per-worker", "2", "--scaling.workers", "2", "--out", f"{tmp_path}/run"
    )  # fmt: skip
    checkpoint = f"{tmp_path}/run/checkpoint"
    assert f"checkpoint  {checkpoint}" in said
    play = ("--checkpoint", checkpoint, *data, *PROTOCOL, "--scaling.nodes", "kind=network")
    grown(cluster, {"network"}, "jobs.evaluate", *play, "--scaling.actors", "6", "--out", f"{tmp_path}/evaluation")
    # More evaluators than the cluster can hold: the sweep does not wait for the rest.
    grown(cluster, {"network"}, "jobs.sweep", "zoom_in", *play, "--scaling.actors", "6", "--out", f"{tmp_path}/sweep")
    cluster.wait_for([], 90)
