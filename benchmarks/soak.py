"""Check that a server does not grow over time: memory and file handles of a long run.

    python -m benchmarks.soak --checkpoint DIR [--minutes 30] [--server ray] [--people 2] [--out FOLDER]

Simulated people open images, click, undo, click over a WebSocket and leave, some without closing the session. Every few
seconds the memory and the open file handles of all server processes are recorded. The result is the slope of a line
through the last two thirds, in percent of the mean per hour.
"""

import argparse
import json
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil

from benchmarks.serve import clicks_of, picture
from benchmarks.servers import server
from serve.client import Client

SETTLED = 1 / 3
"""Fraction of the run after which caches and pools are full."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Sums over all processes of the server at one time."""

    seconds: float
    megabytes: float
    handles: int
    threads: int
    processes: int
    clicks: int


@dataclass(eq=False)
class Tally:
    """Counts of clicks and failures so far; thread-safe."""

    clicks: int = 0
    failures: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def add(self, clicks: int = 0, failures: int = 0) -> None:
        """Add to the counts."""
        with self._lock:
            self.clicks += clicks
            self.failures += failures


def person(number: int, client: Client, data: bytes, until: float, pause_s: float, tally: Tally) -> None:
    """Simulate a person until the time `until`."""
    rng = np.random.default_rng(number)
    turn = 0
    while time.monotonic() < until:
        try:
            session = client.open(data)
            rows = clicks_of(int(rng.integers(2, 8)), session.hw, 1000 * number + turn)
            if turn % 2:
                with session.live() as live:
                    for x, y, positive in rows:
                        live.click(x, y, positive)
                        tally.add(1)
                        time.sleep(pause_s * rng.exponential())
            else:
                for x, y, positive in rows:
                    session.click(x, y, positive)
                    tally.add(1)
                    time.sleep(pause_s * rng.exponential())
                session.undo()
            if turn % 3:
                session.close()
        except Exception as error:
            print(f"person {number}: {type(error).__name__}: {error}", flush=True)
            tally.add(failures=1)
        turn += 1


def sample(root: psutil.Process, began: float, clicks: int) -> Sample:
    """Sum up the memory and handles of the server's processes now."""
    megabytes, handles, threads, processes = 0.0, 0, 0, 0
    for process in [root, *root.children(recursive=True)]:
        try:
            with process.oneshot():
                # Excluding shared memory, so that Ray's object store is not counted in each process that maps it.
                info = process.memory_info()
                megabytes += (info.rss - info.shared) / 2**20
                handles += process.num_fds()
                threads += process.num_threads()
                processes += 1
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return Sample(time.monotonic() - began, megabytes, handles, threads, processes, clicks)


def slope_per_hour(seconds: np.ndarray, values: np.ndarray) -> float:
    """Return the slope of a line through the points, in percent of the mean per hour."""
    per_second = float(np.polyfit(seconds, values, 1)[0])
    return 100 * 3600 * per_second / float(values.mean())


def draw(samples: list[Sample], path: Path) -> None:
    """Draw memory and handles over time."""
    import matplotlib.pyplot as plt

    minutes = [each.seconds / 60 for each in samples]
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, name, label in zip(axes, ("megabytes", "handles"), ("memory, MiB", "file handles"), strict=True):
        values = [getattr(each, name) for each in samples]
        axis.plot(minutes, values)
        axis.set(xlabel="minutes", ylabel=label, ylim=(0, 1.1 * max(values)))
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--server", choices=("ray", "proxy", "haproxy", "plain"), default="ray")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--people", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.3, help="mean seconds between clicks of one person")
    parser.add_argument("--every", type=float, default=5, help="seconds between samples of the processes")
    parser.add_argument("--port", type=int, default=8766)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/soak"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    data, tally, samples = picture(args.image), Tally(), []
    # Sessions that were left open expire after a minute, so that the run is long compared to their life.
    with (
        server(args.checkpoint, args.port, args.server, options=("--idle-minutes", "1")) as (address, token, process),
        Client(address, token=token) as client,
    ):
        began = time.monotonic()
        until, root = began + 60 * args.minutes, psutil.Process(process.pid)
        people = [
            threading.Thread(target=person, args=(n, client, data, until, args.pause, tally))
            for n in range(args.people)
        ]
        for each in people:
            each.start()
        while time.monotonic() < until:
            samples.append(sample(root, began, tally.clicks))
            if len(samples) % 12 == 0:
                print(f"{samples[-1]}", flush=True)
            time.sleep(args.every)
        for each in people:
            each.join()
        retries = client.num_retries
    late = [each for each in samples if each.seconds > SETTLED * 60 * args.minutes]
    seconds = np.array([each.seconds for each in late])
    slopes = {
        name: slope_per_hour(seconds, np.array([getattr(each, name) for each in late], float))
        for name in ("megabytes", "handles", "threads")
    }
    draw(samples, args.out / "soak.png")
    summary = {"clicks": tally.clicks, "failures": tally.failures, "retries": retries, "percent_per_hour": slopes}
    (args.out / "soak.json").write_text(json.dumps(summary | {"samples": [asdict(each) for each in samples]}) + "\n")
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
