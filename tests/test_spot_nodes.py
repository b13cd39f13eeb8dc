"""Training and evaluation on nodes that are drained and killed, or just killed: the same samples and results."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


@pytest.mark.check(46)
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(660)
@pytest.mark.parametrize("what", ["train", "evaluate"])
def test_lost_nodes_do_not_change_the_result(what: str, tmp_path: Path) -> None:
    # A short path, because that of a socket has at most 107 bytes.
    temporary = tempfile.mkdtemp(prefix="spot")
    (Path(temporary) / "ray").mkdir()
    env = os.environ | {
        "RAY_TMPDIR": temporary,
        "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",
        "RAY_health_check_failure_threshold": "3",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "1000",
        "RAY_AUTH_MODE": "disabled",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    command = [sys.executable, "-m", "tests.spot_nodes", what, str(tmp_path), "1"]
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=640, check=False)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stdout.count("\nthe same\n") == 1, done.stdout[-2000:]
