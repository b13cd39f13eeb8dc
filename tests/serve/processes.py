"""`python -m serve` as a separate process, with many concurrent clients, for tests that need real processes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from serve.http.tls import Tls
from tests.ports import free_port

ROOT = Path(__file__).parents[2]


@dataclass(eq=False)
class Running:
    """A server and its address; `process` leads a separate process group."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]


@contextlib.contextmanager
def served(
    checkpoint: Path | str,
    folder: Path,
    *options: str,
    before: tuple[str, ...] = (),
    python: Path | str = sys.executable,
    tls: Tls | None = None,
) -> Iterator[Running]:
    """Run a server until the block ends.

    `before`: what the command is given to, such as unshare; `python`: of the environment that it runs in.
    """
    port = free_port()
    command = [*before, str(python), "-m", "serve", "--port", str(port), "--num-threads", "1", "--device", "cpu"]
    command += ["--checkpoint", str(checkpoint), "--sessions", str(folder / "sessions.db")]
    command += ["--clicks-per-second", "0", "--opens-per-minute", "0", *options]
    command += ["--certificate", tls.certificate, "--key", tls.key] if tls else []
    log = folder / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    running = Running(process, f"http{'s' if tls else ''}://127.0.0.1:{port}", log)
    try:
        if not before:
            _wait(running)
        yield running
    finally:
        for number, seconds in ((signal.SIGTERM, 40), (signal.SIGKILL, 10)):
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)


def _wait(running: Running) -> None:
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        assert running.process.poll() is None, running.said()
        with contextlib.suppress(httpx.TransportError):
            if (
                httpx.get(f"{running.address}/v1/health/ready", timeout=5, trust_env=False, verify=False).status_code
                == 200
            ):
                return
        time.sleep(0.2)
    raise AssertionError(f"it never was ready: {running.said()}")


def client(running: Running, timeout_s: float = 60, **options: Any) -> httpx.Client:
    """A client with separate connections."""
    return httpx.Client(base_url=running.address, timeout=timeout_s, trust_env=False, **options)


def open_session(http: httpx.Client, image: bytes) -> str:
    answer = http.post("/v1/sessions", content=image, headers={"Content-Type": "image/png"})
    assert answer.status_code == 201, answer.text
    return answer.json()["session_id"]
