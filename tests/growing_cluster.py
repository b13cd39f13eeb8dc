"""A cluster that grows: Ray's autoscaler starts nodes on demand, each of them a raylet on this machine.

It replaces `ray.cluster_utils.AutoscalingCluster`, which cannot be used here: wheels lack its example.yaml, and it
stops every Ray on the machine when it starts and when it ends.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.process_tree import kill_tree

ROOT = Path(__file__).parents[1]
RAY = Path(sys.executable).with_name("ray")
MEMORY = 100_000_000
HEAD, HEAD_TYPE = "f" * 51 + "00000", "ray.head.default"
"""Name of the head in the provider of such nodes."""
LIST = """
import ray
ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
print(*(node["Labels"].get("kind", "") for node in ray.nodes() if node["Alive"]))
"""
STARTED = re.compile(r"Launched \d+ nodes of type (\w+)")


@dataclass(frozen=True)
class Growing:
    """A cluster, and the environment of a process for which `ray start` has recorded it."""

    address: str
    environ: dict[str, str]
    folder: Path
    known: list[str] = field(default_factory=list)

    def nodes(self) -> list[str]:
        """Return the types of the nodes that are up, except the head."""
        listed = subprocess.run(
            [sys.executable, "-c", LIST], env=self.environ, capture_output=True, text=True, check=True, timeout=60
        )
        return sorted(listed.stdout.split())

    def started(self) -> list[str]:
        """Return the types of the nodes that the autoscaler has started since the last call, one entry per start."""
        log = self.folder / "ray" / "session_latest" / "logs" / "monitor.log"
        found = STARTED.findall(log.read_text())
        fresh = found[len(self.known) :]
        self.known.extend(fresh)
        return fresh

    def wait_for(self, nodes: list[str], seconds: float) -> None:
        """Wait until exactly these nodes are up."""
        deadline = time.monotonic() + seconds
        while (found := self.nodes()) != nodes:
            assert time.monotonic() < deadline, f"{found} are up, expected {nodes}"
            time.sleep(1)

    def run(self, *command: str, timeout: float = 400) -> "subprocess.CompletedProcess[str]":
        """Run `python -m command` as a user of this machine does."""
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=self.environ | {name: os.environ[name] for name in ("MLFLOW_TRACKING_URI",) if name in os.environ},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )


@contextmanager
def growing(node_types: Mapping[str, Mapping[str, Any]], *, idle_minutes: float = 0.1) -> Iterator[Growing]:
    """Run a head without CPUs, and at first without other nodes, until the block ends.

    `node_types`: resources and labels of each type, of which there can be two nodes.
    """
    folder = Path(tempfile.mkdtemp(prefix="mw", dir="/tmp"))  # a long path does not fit into a socket's name
    port, dashboard = free_port(), free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environ |= {"RAY_TMPDIR": str(folder), "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    kinds = {HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}}
    for name, kind in node_types.items():
        resources = {"object_store_memory": MEMORY, **kind["resources"]}
        labels = {"kind": name, **kind.get("labels", {})}
        kinds[name] = {"node_config": {}, "max_workers": 2, "resources": resources, "labels": labels}
    config = {
        "cluster_name": "growing",
        "max_workers": 4,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": idle_minutes,
        "provider": {
            # Given as a class: for providers known by name, Ray needs a file of defaults that wheels do not contain.
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "disable_node_updaters": True,
            "gcs_address": f"127.0.0.1:{port}",
            "launch_multiple": True,
            "head_node_id": HEAD,
        },
        "available_node_types": kinds,
        "head_node_type": HEAD_TYPE,
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }
    (folder / "cluster.json").write_text(json.dumps(config))
    command = [str(RAY), "start", "--head", "--block", "--num-cpus=0", f"--port={port}", "--disable-usage-stats"]
    command += [f"--autoscaling-config={folder / 'cluster.json'}", f"--object-store-memory={MEMORY}"]
    command += [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={free_port()}"]
    of_head = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD,
        "RAY_NODE_TYPE_NAME": HEAD_TYPE,
    }
    log = folder / "head.log"
    with log.open("wb") as out:
        head = subprocess.Popen(command, env=environ | of_head, stdout=out, stderr=out, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        record = folder / "ray" / "ray_current_cluster"
        while not record.is_file():
            assert head.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield Growing(record.read_text().strip(), environ, folder)
    finally:
        kill_tree(head.pid)
        head.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
