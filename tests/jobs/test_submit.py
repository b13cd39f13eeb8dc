"""`ray job submit` to a separate cluster, as a user runs it: the output, and the location of the checkpoint."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from models import checkpoint as checkpoints

REPOSITORY = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
    "RAY_AUTH_MODE": "disabled",
    "OMP_NUM_THREADS": "1",
}


def free_port() -> int:
    """Return a free port outside 10002-19999, which Ray assigns to its workers."""
    for port in range(23_000 + os.getpid() % 1000, 30_000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError("no free port")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A head node in its own process group and a short folder; yields the dashboard's address."""
    folder = tempfile.mkdtemp(prefix="mw", dir="/tmp")  # a long path does not fit into a socket's name
    port, dashboard = free_port(), free_port() + 7
    command = [str(RAY), "start", "--head", "--block", "--num-cpus=4", f"--port={port}", f"--temp-dir={folder}"]
    command += ["--include-dashboard=true", f"--dashboard-port={dashboard}", "--object-store-memory=200000000"]
    log = Path(folder) / "head.log"
    with log.open("wb") as output:
        head = subprocess.Popen(
            command, cwd=folder, env=ENVIRONMENT, stdout=output, stderr=output, start_new_session=True
        )
    address = f"http://127.0.0.1:{dashboard}"
    try:
        deadline = time.monotonic() + 120
        while True:
            assert head.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                if httpx.get(f"{address}/api/jobs/", timeout=2).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            time.sleep(1)
        yield address
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        try:
            head.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def submit(address: str, tmp_path: Path, *argv: str) -> "subprocess.CompletedProcess[str]":
    command = [str(RAY), "job", "submit", "--address", address, "--working-dir", "."]
    command += ["--runtime-env-json", f'{{"env_vars": {{"MLFLOW_TRACKING_URI": "sqlite:///{tmp_path}/mlflow.db"}}}}']
    deadline = time.monotonic() + 120
    while True:
        done = subprocess.run(
            [*command, "--", sys.executable, "-m", "jobs.train", *argv],
            cwd=REPOSITORY,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        # The head answers some seconds before it has an agent that can run jobs.
        if "No available agent to submit job" not in done.stderr or time.monotonic() > deadline:
            return done
        time.sleep(3)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_a_submitted_job_trains_and_prints_its_results(cluster: str, tmp_path: Path) -> None:
    argv = ["demo", "--data.options", "num_images", "6", "height", "64", "width", "64", "--data.crop-hw", "32", "32"]
    argv += ["--data.window-size", "4", "--data.min-object-area", "20", "--training.steps", "2"]
    argv += ["--training.batch-size", "4", "--training.log-every", "1"]
    done = submit(cluster, tmp_path, *argv, "--out", str(tmp_path / "run"))
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "step 2/2  loss " in said
    assert f"checkpoint  {tmp_path / 'run' / 'checkpoint'}" in said
    assert checkpoints.describe(tmp_path / "run" / "checkpoint")["info"]["step"] == 2
    assert (tmp_path / "mlflow.db").is_file()

    refused = submit(cluster, tmp_path, *argv, "--out", "runs/relative")
    said = refused.stdout + refused.stderr
    assert refused.returncode != 0
    assert "error: --out runs/relative: expected an absolute path under `ray job submit`" in said
    assert 'File "' not in said.split("error: --out")[0].split("jobs.train")[-1]
