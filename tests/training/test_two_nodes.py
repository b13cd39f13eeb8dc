"""Training across two real Ray nodes, one of which is killed, or comes later: it goes on with what there is."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.training.two_nodes import STEPS


@pytest.mark.slow
@pytest.mark.timeout(420)
@pytest.mark.parametrize("change", ["lose", "gain"])
def test_training_goes_on_with_the_nodes_that_there_are(change: str, tmp_path: Path) -> None:
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
    storage = tmp_path / "run"
    storage.mkdir()
    command = [sys.executable, "-m", "tests.training.two_nodes", str(storage), change]
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=400, check=False)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert f"{change} a node after step" in done.stdout
    lines = [line.split() for line in (storage / "worlds").read_text().splitlines()]
    worlds = [(int(step), int(world)) for step, world in lines]
    first, last = (2, 1) if change == "lose" else (1, 2)
    assert worlds[0] == (1, first), worlds
    assert worlds[-1] == (STEPS[change], last), worlds
    # Every step was made; those since the last checkpoint twice.
    assert sorted({step for step, _ in worlds}) == list(range(1, STEPS[change] + 1))
