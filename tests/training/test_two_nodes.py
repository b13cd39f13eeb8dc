"""Training on two real Ray nodes, one of which is killed or joins later, continues with the nodes that are there."""

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.bucket import a_bucket
from tests.training.two_nodes import STEPS


@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.parametrize(("change", "where"), [("lose", "disk"), ("gain", "disk"), ("lose", "bucket")])
def test_training_continues_when_nodes_leave_or_join(change: str, where: str, tmp_path: Path) -> None:
    """The nodes share a disk, or only a bucket."""
    with a_bucket() if where == "bucket" else nullcontext("") as address:
        place = address.replace("key:secret@", "").format(folder="run") or str(tmp_path / "run")
        goes_on(change, place, tmp_path / "worlds")


def goes_on(change: str, place: str, worlds: Path) -> None:
    # Short: a socket's path holds 107 bytes at the most.
    temporary = tempfile.mkdtemp(prefix="nodes")
    (Path(temporary) / "ray").mkdir()
    env = os.environ | {
        "RAY_TMPDIR": temporary,
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
        "RAY_health_check_failure_threshold": "3",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "1000",
        "RAY_AUTH_MODE": "disabled",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    command = [sys.executable, "-m", "tests.training.two_nodes", place, change, str(worlds)]
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400, check=False)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert f"{change} a node after step" in done.stdout
    made = [(int(step), int(world)) for step, world in map(str.split, worlds.read_text().splitlines())]
    first, last = (2, 1) if change == "lose" else (1, 2)
    assert made[0] == (1, first), made
    assert made[-1] == (STEPS[change], last), made
    # Every step was made, those since the last checkpoint twice.
    assert sorted({step for step, _ in made}) == list(range(1, STEPS[change] + 1))
