"""What serving adds to a click, what a correction costs beside a first click, and how many sessions share the server.

    python -m benchmarks.serve --checkpoint DIR --image PHOTO.jpg [--plain] [--concurrency 1 2 4 8] [--json OUT]

The server runs on Ray Serve on this machine (`--plain`: uvicorn in a process of its own), loopback, one client process.
The same clicks are made on Predictor in this process, before and after. A scene of 1920 x 1080 without --image.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from models.predictor import Predictor
from pipeline.data.readers import open_reader
from serve.client import Client

HW = (1080, 1920)


def picture(path: Path | None) -> bytes:
    """A JPEG to click on."""
    if path is not None:
        return path.read_bytes()
    options = {"num_images": "1", "height": str(HW[0]), "width": str(HW[1])}
    reader = open_reader("scenes", None, "test", options)
    stream = io.BytesIO()
    Image.fromarray(reader.load(reader.items()[0]).image).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def clicks_of(num: int, hw: tuple[int, int], seed: int) -> list[tuple[float, float, bool]]:
    """Clicks (x, y, positive) spread over the middle of the image."""
    rng = np.random.default_rng(seed)
    xs, ys = rng.uniform(0.25, 0.75, num) * hw[1], rng.uniform(0.25, 0.75, num) * hw[0]
    return [(float(int(x)), float(int(y)), number % 3 != 1) for number, (x, y) in enumerate(zip(xs, ys, strict=True))]


def in_process(checkpoint: str, data: bytes, sessions: int, clicks: int) -> tuple[list[float], list[float]]:
    """Seconds of first clicks and of corrections on Predictor."""
    predictor = Predictor(checkpoint)
    image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    first, later = [], []
    for number in range(sessions + 1):
        session = predictor.open(image)
        for turn, (x, y, positive) in enumerate(clicks_of(clicks, image.shape[:2], number)):
            began = time.perf_counter()
            session.click(y, x, positive)
            if number:  # the first session warms up
                (later if turn else first).append(time.perf_counter() - began)
    return first, later


def over_http(client: Client, data: bytes, number: int, clicks: int) -> tuple[list[float], list[float]]:
    """Seconds of a session's first click and of its corrections, as the client sees them."""
    first, later = [], []
    with client.open(data) as session:
        for turn, (x, y, positive) in enumerate(clicks_of(clicks, session.hw, number)):
            began = time.perf_counter()
            session.click(x, y, positive)
            (later if turn else first).append(time.perf_counter() - began)
    return first, later


@contextlib.contextmanager
def server(checkpoint: str, port: int, plain: bool, threads: int) -> Iterator[str]:
    """Run the server in a process of its own while the block runs."""
    folder = tempfile.mkdtemp()
    command = [sys.executable, "-m", "serve", "--checkpoint", checkpoint, "--port", str(port), "--device", "cpu"]
    command += ["--num-threads", str(threads), "--sessions", f"{folder}/sessions.db", *(["--plain"] if plain else [])]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{address}/v1/health/ready", trust_env=False).status_code == 200:
                    break
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.returncode}")
            time.sleep(0.3)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def row(name: str, seconds: list[float], base: list[float]) -> dict[str, Any]:
    """Median and 99th percentile, and what they add to the same click in this process; milliseconds."""
    p50, p99 = 1e3 * statistics.median(seconds), 1e3 * float(np.quantile(seconds, 0.99))
    return {"click": name, "p50 ms": p50, "p99 ms": p99, "added ms": p50 - 1e3 * statistics.median(base)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--clicks", type=int, default=6)
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch

    torch.set_num_threads(args.threads)
    data = picture(args.image)
    before = in_process(args.checkpoint, data, args.sessions, args.clicks)
    rates: list[dict[str, Any]] = []
    with server(args.checkpoint, args.port, args.plain, args.threads) as address, Client(address) as client:
        over_http(client, data, 0, args.clicks)
        found = [over_http(client, data, n, args.clicks) for n in range(1, args.sessions + 1)]
        for num in args.concurrency:
            began = time.monotonic()
            with ThreadPoolExecutor(num) as pool:
                jobs = [pool.submit(over_http, client, data, n, args.clicks) for n in range(2 * num)]
                seconds = [s for job in jobs for part in job.result() for s in part]
            rate = len(seconds) / (time.monotonic() - began)
            rates.append({"sessions": num, "clicks/s": rate, "p99 ms": 1e3 * float(np.quantile(seconds, 0.99))})
    after = in_process(args.checkpoint, data, args.sessions, args.clicks)
    base = before[0] + after[0], before[1] + after[1]
    first, later = ([s for session in found for s in session[part]] for part in (0, 1))
    rows = [row("first", first, base[0]), row("correction", later, base[1])]
    print(f"\n{args.checkpoint}, {'uvicorn' if args.plain else 'Ray Serve'}, {args.threads} thread(s)")
    print("| click | p50, ms | p99, ms | in process, ms | added, ms |\n|---|---|---|---|---|")
    for each, own in zip(rows, base, strict=True):
        numbers = (each["p50 ms"], each["p99 ms"], 1e3 * statistics.median(own), each["added ms"])
        print(f"| {each['click']} | " + " | ".join(f"{number:.1f}" for number in numbers) + " |")
    print(f"a correction is {rows[0]['p50 ms'] / rows[1]['p50 ms']:.1f} x cheaper than a first click, end to end")
    print("| sessions at once | clicks/s | p99, ms |\n|---|---|---|")
    for each in rates:
        print(f"| {each['sessions']} | {each['clicks/s']:.1f} | {each['p99 ms']:.0f} |")
    if args.json:
        args.json.write_text(json.dumps({"clicks": rows, "concurrency": rates}, indent=2) + "\n")


if __name__ == "__main__":
    main()
