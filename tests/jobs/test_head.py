"""A head that dies while a job runs: the next head, on the same store, knows the job and its status."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.jobs.test_submit import ENVIRONMENT, RAY
from tests.ports import free_port
from tests.process_tree import kill_tree
from tests.serve.redis_server import RedisServer


@contextmanager
def head(store: int, port: int, dashboard: int, num_cpus: int = 2, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a head node whose tables are in Redis; at the end, kill it with all its processes, as if the machine died."""
    folder = tempfile.mkdtemp(prefix="mw", dir="/tmp")  # a long path does not fit into a socket's name
    command = [
        str(RAY),
        "start",
        "--head",
        "--block",
        f"--num-cpus={num_cpus}",
        f"--port={port}",
        f"--temp-dir={folder}",
    ]
    command += ["--include-dashboard=true", f"--dashboard-port={dashboard}"]
    # Each Ray on a machine needs a separate port for its agent, or jobs never run.
    command += [f"--dashboard-agent-listen-port={free_port()}", "--object-store-memory=100000000"]
    env = ENVIRONMENT | {"RAY_REDIS_ADDRESS": f"127.0.0.1:{store}"} | environ
    log = Path(folder) / "head.log"
    with log.open("wb") as out:
        running = subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        deadline = time.monotonic() + 150
        while True:
            assert running.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                if httpx.get(f"http://127.0.0.1:{dashboard}/api/jobs/", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(1)
        yield running
    finally:
        kill_tree(running.pid)
        running.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.check(47)
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_next_head_knows_the_jobs_of_a_head_that_died() -> None:
    store, port, dashboard = free_port(), free_port(), free_port()
    address = f"http://127.0.0.1:{dashboard}"
    with RedisServer("--port", str(store), "--bind", "127.0.0.1"):
        with head(store, port, dashboard):
            submit(address, "kept", "sleep 600")
            wait_for(address, "kept", "RUNNING")
        with head(store, port, dashboard):
            # Ray checks the jobs that it knows only once another one is submitted, and reports RUNNING until then.
            assert status_of(address, "kept") == "RUNNING"
            submit(address, "again", "true")
            wait_for(address, "kept", "FAILED")
            wait_for(address, "again", "SUCCEEDED")


def submit(address: str, name: str, command: str) -> None:
    deadline, body = time.monotonic() + 120, {"entrypoint": command, "submission_id": name}
    while httpx.post(f"{address}/api/jobs/", json=body, timeout=60).status_code != 200:
        assert time.monotonic() < deadline, "no agent ran the job"
        time.sleep(2)


def wait_for(address: str, name: str, status: str) -> None:
    deadline = time.monotonic() + 120
    while status_of(address, name) != status:
        assert time.monotonic() < deadline, status_of(address, name)
        time.sleep(1)


def status_of(address: str, name: str) -> str:
    answer = httpx.get(f"{address}/api/jobs/{name}", timeout=30)
    return str(answer.json()["status"]) if answer.status_code == 200 else f"unknown ({answer.status_code})"
