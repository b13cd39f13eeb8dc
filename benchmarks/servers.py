"""Starts a server in a separate process for benchmarks."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from serve.core.tokens import new_token

WAYS = ("http", "live")
READY_S = 180


@contextlib.contextmanager
def server(
    checkpoint: str, port: int, kind: str = "ray", threads: int = 1, options: tuple[str, ...] = ()
) -> Iterator[tuple[str, str | None, subprocess.Popen[bytes]]]:
    """Serve while the block runs; yield the address, the secret of a token if one is needed, and the process.

    `kind` is ray, proxy (Ray Serve's proxies), haproxy (HAProxy, open to other machines, with a token) or plain (no
    Ray).
    """
    folder, secret = Path(tempfile.mkdtemp()), None
    command = [sys.executable, "-m", "serve", "--checkpoint", checkpoint, "--port", str(port), "--device", "cpu"]
    command += ["--num-threads", str(threads), "--sessions", f"{folder}/sessions.db"]
    command += ["--clicks-per-second", "0", "--opens-per-minute", "0", *options]
    environment = dict(os.environ)
    if kind == "plain":
        command.append("--plain")
    if kind == "proxy":
        command.append("--proxy")
    if kind == "haproxy":
        secret, line = new_token("benchmark", "annotator")
        (folder / "tokens").write_text(line)
        command += ["--proxy", "--host", "0.0.0.0", "--tokens", f"{folder}/tokens"]
        environment["RAY_SERVE_ENABLE_HA_PROXY"] = "1"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(process, address, secret)
        yield address, secret, process
    finally:
        process.terminate()
        process.wait(90)


def wait_until_ready(process: subprocess.Popen[bytes], address: str, secret: str | None) -> None:
    """Return once the model answers; raises RuntimeError if the server exits or takes too long."""
    headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            answer = httpx.get(f"{address}/v1/health/ready", trust_env=False, headers=headers)
            if answer.status_code == 200:
                return
        if process.poll() is not None:
            raise RuntimeError(f"the server exited with code {process.returncode}")
        time.sleep(0.3)
    raise RuntimeError(f"the server was not ready within {READY_S} s")
