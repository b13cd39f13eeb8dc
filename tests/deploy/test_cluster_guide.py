"""docs/CLUSTER.md as a reader follows it on one machine: each block marked `tested`, in order, on a real Ray."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from models.storage import Storage
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/CLUSTER.md").read_text()
BLOCKS = re.findall(r"^```([^\n]*)\n(.*?)^```", GUIDE, re.M | re.S)
TESTED = [text for mark, text in BLOCKS if mark == "bash tested"]


def test_each_block_is_tested_or_says_what_it_needs() -> None:
    assert all(re.fullmatch(r"bash (tested|needs=(docker|machines|kubernetes|aws))", mark) for mark, _ in BLOCKS)
    assert len(TESTED) >= 8
    assert len(re.findall("^```", GUIDE, re.M)) == 2 * len(BLOCKS)
    for text in (text for _, text in BLOCKS):
        for name in re.findall(r"(?:file://|-k |-f |ray up --yes |ray dashboard )([\w./-]+)", text):
            assert (ROOT / name).exists(), name
        for module in re.findall(r"python -m ([\w.]+)", text):
            path = ROOT / Path(*module.split("."))
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), module


@pytest.fixture
def shell() -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield a home folder and an environment; processes that were started with the folder are killed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="mw", dir="/tmp"))  # a long path does not fit into a socket's name
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_", "AWS_"))}
    environ |= {"HOME": str(folder), "RAY_TMPDIR": str(folder), "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
    yield folder, environ
    for process in psutil.process_iter(["cmdline", "environ"]):
        if (process.info["environ"] or {}).get("RAY_TMPDIR") == str(folder) and process.pid != os.getpid():
            process.kill()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_guide_from_two_machines_to_a_served_model(shell: tuple[Path, dict[str, str]]) -> None:
    folder, environ = shell
    (folder / "shared").mkdir()
    gcs, dashboard, http, agents = free_port(), free_port(), free_port(), iter(free_port() for _ in range(9))
    small = "--object-store-memory=200000000"
    here = {
        "=/shared ": f"={folder}/shared ",
        "http://mlflow.example.org:5000": f"sqlite:///{folder}/mlflow.db",
        "HEAD=192.168.1.10": "HEAD=127.0.0.1",
        "6379": str(gcs),
        "--dashboard-host=127.0.0.1": f"--dashboard-host=127.0.0.1 --dashboard-port={dashboard} {small}",
        ":8265": f":{dashboard}",
        "--address=$HEAD": f"--num-cpus=8 {small} --address=$HEAD",
        "my-serve.yaml": f"{folder}/my-serve.yaml",
        "serve/config.yaml >": f"serve/config.yaml | sed 's|: 8000|: {http}|' >",
    }
    used: set[str] = set()
    variables = folder / "variables"
    variables.touch()
    for block in TESTED:
        text = block
        for name, place in here.items():
            if name in text:
                used.add(name)
                text = text.replace(name, place)
        # Two raylets on one machine need separate ports for their agents; on a reader's machines they have them.
        text = re.sub(r"ray start", lambda _: f"ray start --dashboard-agent-listen-port={next(agents)}", text)
        script = f"set -euo pipefail; source {variables}; {text}\nexport -p > {variables}"
        for _ in range(20):
            done = subprocess.run(
                ["bash", "-c", script], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=400
            )
            # The head answers some seconds before it has an agent that can run jobs.
            if "No available agent to submit job" not in done.stderr and "RAY_API_SERVER" not in done.stderr:
                break
            time.sleep(3)
        assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert used == set(here)
    shared = Storage(str(folder / "shared"))
    assert shared.exists("runs/first/checkpoint/checkpoint.json")
    assert shared.exists("evaluated/first/summary.json")
    deadline = time.monotonic() + 200
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{http}/v1/health/ready", timeout=10).status_code == 200:
                break
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, done.stdout
        time.sleep(2)
