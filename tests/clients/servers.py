"""Processes that the clients talk to: our server, from the environment that has torch, and others; all are ended.

Runs in environments without torch and without this repository's requirements: httpx and the standard library.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("MASKWRIGHT_PYTHON", str(ROOT / ".venv" / "bin" / "python"))
"""The Python of the environment that serves."""


def make_checkpoint(folder: Path) -> Path:
    """Have a small network saved, by the environment that has torch."""
    command = [PYTHON, "-m", "tests.clients.make_checkpoint", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300)
    return folder


@contextlib.contextmanager
def process(command: Sequence[str], ready: str, log: Path, seconds: float, **variables: str) -> Iterator[None]:
    """Run a server until the block ends; it has begun when the URL `ready` answers 200.

    Raises AssertionError with the end of its log if it ends before, or takes longer than `seconds`.
    """
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    with log.open("wb") as out:
        # A separate process group, so that its children end with it.
        running = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_for(ready, running, log, seconds)
        yield
    finally:
        _end(running)


@contextlib.contextmanager
def our_server(folder: Path, *options: str, checkpoint: Path | None = None, **variables: str) -> Iterator[str]:
    """`python -m serve --plain` on a free port; gives its address. Its files are in `folder`."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [PYTHON, "-m", "serve", "--plain", "--port", str(port), "--num-threads", "1", "--device", "cpu"]
    command += ["--checkpoint", str(checkpoint or make_checkpoint(folder / "checkpoint"))]
    command += ["--sessions", str(folder / "sessions.db"), *options]
    with process(command, f"{address}/v1/health", folder / "serve.log", 120, **variables):
        yield address


def wait_for(url: str, running: subprocess.Popen[bytes], log: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and running.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, timeout=5, trust_env=False, follow_redirects=True).status_code == 200:
                return
        time.sleep(0.2)
    raise AssertionError(f"{url} never answered; the process said:\n{log.read_text(errors='replace')[-3000:]}")


def _end(running: subprocess.Popen[bytes]) -> None:
    for number, seconds in ((signal.SIGTERM, 15), (signal.SIGKILL, 15)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(seconds)
            return
