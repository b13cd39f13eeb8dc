"""Time that serving adds to a click, time of a correction against a first click, and throughput with many sessions.

    python -m benchmarks.serve (--checkpoint DIR | --network NAME) [--server ray proxy haproxy plain]
        [--image PHOTO.jpg] [--concurrency 1 2 4 8 16 32 64] [--json OUT]

Servers: `ray` as `python -m serve` starts it, `proxy` behind Ray Serve's proxies, `haproxy` behind HAProxy with a
token, and `plain` without Ray. The client is one process on the same machine; without --image, images are 1920 x 1080.
For comparison, the same clicks are made with Predictor in this process, before and after each server. A network given
by name has seeded weights.
"""

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.servers import WAYS, server
from models import checkpoint
from models.networks import create
from models.predictor import Predictor
from pipeline.data.readers import open_reader
from serve.client import Client, RemoteSession

HW = (1080, 1920)
KINDS = ("first", "correction")
Times = dict[str, list[float]]
"""Seconds of each click, by kind."""


def picture(path: Path | None) -> bytes:
    """Return a JPEG to click on."""
    if path is not None:
        return path.read_bytes()
    options = {"num_images": "1", "height": str(HW[0]), "width": str(HW[1])}
    reader = open_reader("scenes", None, "test", options)
    stream = io.BytesIO()
    Image.fromarray(reader.load(reader.items()[0]).image).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def seeded(name: str) -> str:
    """Write a checkpoint of a network with seeded weights and return its folder."""
    import torch

    torch.manual_seed(0)
    folder = Path(tempfile.mkdtemp()) / name
    checkpoint.save(create(name), folder)
    return str(folder)


def clicks_of(num: int, hw: tuple[int, int], seed: int) -> list[tuple[float, float, bool]]:
    """Return clicks (x, y, positive) spread over the middle of the image."""
    rng = np.random.default_rng(seed)
    xs, ys = rng.uniform(0.25, 0.75, num) * hw[1], rng.uniform(0.25, 0.75, num) * hw[0]
    return [(float(int(x)), float(int(y)), number % 3 != 1) for number, (x, y) in enumerate(zip(xs, ys, strict=True))]


def timed(click: Any, clicks: list[tuple[float, float, bool]]) -> Times:
    """Make the clicks one after another and return their times."""
    times: Times = {kind: [] for kind in KINDS}
    for turn, (x, y, positive) in enumerate(clicks):
        began = time.perf_counter()
        click(x, y, positive)
        times[KINDS[min(turn, 1)]].append(time.perf_counter() - began)
    return times


def merged(parts: Iterator[Times] | list[Times]) -> Times:
    """Join the times of several sessions."""
    found: Times = {kind: [] for kind in KINDS}
    for part in parts:
        for kind in KINDS:
            found[kind] += part[kind]
    return found


def in_process(folder: str, data: bytes, sessions: int, clicks: int) -> Times:
    """Time the clicks on Predictor; the first session warms up and does not count."""
    predictor = Predictor(folder)
    image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def one(number: int) -> Times:
        session = predictor.open(image)
        return timed(lambda x, y, positive: session.click(y, x, positive), clicks_of(clicks, image.shape[:2], number))

    one(0)
    return merged([one(number) for number in range(1, sessions + 1)])


def over(way: str, client: Client, data: bytes, number: int, clicks: int) -> Times:
    """Time the clicks over HTTP or a WebSocket (live) in the client, including decoding of the masks."""
    with client.open(data) as session:
        rows = clicks_of(clicks, session.hw, number)
        if way == "http":
            return timed(session.click, rows)
        with session.live() as live:
            return timed(live.click, rows)


@dataclass(eq=False)
class Row:
    """A line of the table, in milliseconds; `added` is the difference to the same click in this process."""

    server: str
    way: str
    click: str
    p50: float
    p99: float
    bare: float
    added: float = field(init=False)

    def __post_init__(self) -> None:
        self.added = self.p50 - self.bare


def quantile(seconds: list[float], q: float) -> float:
    """Return a quantile in milliseconds."""
    return 1e3 * float(np.quantile(seconds, q))


def latency(name: str, client: Client, folder: str, data: bytes, args: argparse.Namespace) -> list[Row]:
    """Measure HTTP and WebSocket in turn, between two rounds of the same clicks in this process."""
    bare = [in_process(folder, data, args.sessions, args.clicks)]
    for way in WAYS:
        over(way, client, data, 0, args.clicks)
    found: dict[str, list[Times]] = {way: [] for way in WAYS}
    for number in range(1, args.sessions + 1):
        for way in WAYS:
            found[way].append(over(way, client, data, number, args.clicks))
    bare.append(in_process(folder, data, args.sessions, args.clicks))
    base, rows = merged(bare), []
    for way in WAYS:
        times = merged(found[way])
        for kind in KINDS:
            p50, p99 = quantile(times[kind], 0.5), quantile(times[kind], 0.99)
            rows.append(Row(name, way, kind, p50, p99, 1e3 * statistics.median(base[kind])))
    return rows


def load(client: Client, data: bytes, num: int, args: argparse.Namespace) -> dict[str, float]:
    """Measure throughput with `num` people at once, who open sessions one after another and click without pause."""
    until = time.monotonic() + args.seconds

    def person(first: int) -> list[float]:
        seconds: list[float] = []
        number = first
        while time.monotonic() < until:
            session: RemoteSession
            with client.open(data) as session:
                for x, y, positive in clicks_of(args.clicks, session.hw, number):
                    began = time.perf_counter()
                    session.click(x, y, positive)
                    seconds.append(time.perf_counter() - began)
            number += num
        return seconds

    began = time.monotonic()
    with ThreadPoolExecutor(num) as pool:
        seconds = [each for part in pool.map(person, range(num)) for each in part]
    rate = len(seconds) / (time.monotonic() - began)
    return {"sessions": num, "clicks/s": rate, "p50 ms": quantile(seconds, 0.5), "p99 ms": quantile(seconds, 0.99)}


def report(folder: str, rows: list[Row], rates: dict[str, list[dict[str, float]]], threads: int) -> None:
    """Print the tables."""
    print(f"\n{Path(folder).name}, {threads} thread(s)")
    print("| server | way | click | p50, ms | p99, ms | in process, ms | added, ms |\n|---|---|---|---|---|---|---|")
    for row in rows:
        numbers = " | ".join(f"{number:.1f}" for number in (row.p50, row.p99, row.bare, row.added))
        print(f"| {row.server} | {row.way} | {row.click} | {numbers} |")
    for first, correction in zip(rows[::2], rows[1::2], strict=True):
        ratio = first.p50 / correction.p50
        print(f"{first.server}, {first.way}: a correction is {ratio:.1f} x faster than a first click")
    for name, loads in rates.items():
        print(f"\n{name}\n| sessions at once | clicks/s | p50, ms | p99, ms |\n|---|---|---|---|")
        for each in loads:
            print(f"| {each['sessions']} | {each['clicks/s']:.1f} | {each['p50 ms']:.0f} | {each['p99 ms']:.0f} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--checkpoint")
    chosen.add_argument("--network")
    parser.add_argument("--server", nargs="+", choices=("ray", "proxy", "haproxy", "plain"), default=["ray"])
    parser.add_argument("--image", type=Path)
    parser.add_argument("--sessions", type=int, default=8)
    parser.add_argument("--clicks", type=int, default=6)
    parser.add_argument("--concurrency", nargs="*", type=int, default=[])
    parser.add_argument("--seconds", type=float, default=15, help="duration of each measurement with --concurrency")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch

    torch.set_num_threads(args.threads)
    folder, data = args.checkpoint or seeded(args.network), picture(args.image)
    rows: list[Row] = []
    rates: dict[str, list[dict[str, float]]] = {}
    for name in args.server:
        with (
            server(folder, args.port, name, args.threads) as (address, token, _),
            Client(address, token=token) as client,
        ):
            rows += latency(name, client, folder, data, args)
            rates[name] = [load(client, data, num, args) for num in args.concurrency]
    report(folder, rows, rates, args.threads)
    if args.json:
        plain = {"clicks": [row.__dict__ for row in rows], "concurrency": rates}
        args.json.write_text(json.dumps(plain, indent=2) + "\n")


if __name__ == "__main__":
    main()
