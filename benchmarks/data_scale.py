"""`python -m benchmarks.data_scale`: cost of the training stream for up to a million rows and four workers.

Size: prepared data sets of 10^3 to 10^6 rows (one shard of small images, listed as often as needed), each read by the
plain stream in a fresh process: CPU time per sample, time to list, time to plan an epoch and make its first row (or one
in its middle, as a resumed run does), and peak memory. Workers: a Ray pool of 1, 2 and 4 on images that take a fixed
time to arrive, as from a distant store. This simulation shows the cost of the pool itself, where real images would only
measure the CPUs of a small machine.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import tyro

from models.storage import Storage
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.data.prepared.prepare import prepare, run_here
from pipeline.data.readers import open_reader
from pipeline.data.sample import Item, Sample, pack_objects

SHARD_ROWS = 1000
HW = (64, 64)


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the training stream by size of the data set and number of workers."""

    sizes: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    """Rows of the data sets."""
    windows: int = 24
    """Windows per measurement, of 64 samples each."""
    repeats: int = 3
    """Measurements per figure, of which the median counts."""
    workers: tuple[int, ...] = (1, 2, 4)
    """Sizes of the Ray pool."""
    latency_ms: float = 20.0
    """Milliseconds that each image of the simulation takes to arrive."""
    child: str = ""
    """Internal: measure this folder and print JSON."""
    json: Path | None = None
    """File to write the results to."""


@dataclass(frozen=True)
class Small:
    """Small images with two objects each, which take `latency` seconds to load."""

    num_items: int
    latency: float = 0.0
    names: list[str] = field(default_factory=list)

    def items(self) -> list[Item]:
        """List the images."""
        return [Item(id=f"{n:06d}", object_ids=("a", "b"), payload={"n": n}) for n in range(self.num_items)]

    def load(self, item: Item) -> Sample:
        """Generate an image."""
        time.sleep(self.latency)
        rng = np.random.default_rng(item.payload["n"])
        image = rng.integers(0, 256, (*HW, 3), dtype=np.uint8)
        masks = []
        for name in item.object_ids:
            mask = np.zeros(HW, bool)
            y, x = rng.integers(0, 40, 2)
            mask[y : y + 24, x : x + 24] = True
            masks.append((name, "", mask))
        return pack_objects(item.id, image, masks)


def config() -> DataConfig:
    """Return the settings of the stream, with crops of the size of the images."""
    return DataConfig(
        crop_hw=HW, window_size=64, min_object_area=20, copy_paste=CopyPasteConfig(recipe="exclusive"), seed=3
    )


def measure(folder: str, windows: int) -> dict[str, float]:
    """Stream windows at the start, the middle and the end of an epoch; runs in the child process."""
    import resource

    from pipeline.data.local import stream

    def megabytes() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    reader = open_reader("prepared", folder)
    list(islice(stream(reader, config()), 64))  # imports modules and warms up
    before = megabytes()
    started = time.monotonic()
    items = reader.items()
    listed = time.monotonic() - started
    used, count, first = 0.0, 0, []
    for part in (0, 1, 2):
        started = time.monotonic()
        rows = stream(reader, config(), part * (len(items) - 64) // 2, items=items)
        next(rows)  # plans the epoch: its permutation and the start of each window
        first.append(time.monotonic() - started)
        started = time.process_time()
        count += sum(1 for _ in islice(rows, windows * 64 // 3))
        used += time.process_time() - started
    found = {"ms": 1e3 * used / count, "list_s": listed, "base_mb": before, "peak_mb": megabytes()}
    return found | {"start_s": first[0], "middle_s": first[1]}


def repeated(source: Path, target: Path, times: int) -> None:
    """Write a data set that lists the one shard of `source` `times` times."""
    (target / "data").mkdir(parents=True)
    manifest = json.loads((source / "manifest.json").read_text())
    (shard,) = manifest["shards"]
    shards = []
    for number in range(times):
        name = f"data/part-{number:06d}.parquet"
        (target / name).hardlink_to(source / shard["name"])
        shards.append({**shard, "name": name})
    manifest |= {"shards": shards, "num_rows": times * manifest["num_rows"]}
    (target / "manifest.json").write_text(json.dumps(manifest))


def by_size(options: Options, folder: Path) -> dict[str, dict[str, float | str]]:
    """Measure time and memory at each size."""
    results: dict[str, dict[str, float | str]] = {}
    source = folder / "one"
    prepare(Small(SHARD_ROWS), Storage(str(source)), {}, run=run_here(), items_per_part=SHARD_ROWS)
    found: dict[int, list[dict[str, float]]] = {size: [] for size in options.sizes}
    for size in options.sizes:
        repeated(source, folder / str(size), max(1, size // SHARD_ROWS))
    for _ in range(options.repeats):
        for size in options.sizes:
            command = [sys.executable, "-m", "benchmarks.data_scale", "--child", str(folder / str(size))]
            done = subprocess.run([*command, "--windows", str(options.windows)], check=True, capture_output=True)
            found[size].append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{'rows':>9}  ms/sample  against the first  listing  first row  in the middle  peak memory (before listing)")
    first = 0.0
    for size, runs in found.items():
        middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
        first = first or middle["ms"]
        print(
            f"{size:>9}  {middle['ms']:9.3f}  x {middle['ms'] / first:15.3f}  {middle['list_s']:6.2f}s  "
            f"{middle['start_s']:8.2f}s  {middle['middle_s']:12.2f}s  "
            f"{middle['peak_mb']:7.0f} MB ({middle['base_mb']:.0f} MB)"
        )
        results[f"{size} rows"] = {
            "value": middle["ms"],
            "unit": "ms/sample",
            "baseline": first,
            "ratio": middle["ms"] / first,
            "peak_mb": middle["peak_mb"],
        }
    return results


def by_workers(options: Options) -> dict[str, dict[str, float | str]]:
    """Measure the samples per second of pools of several sizes, for images that arrive slowly."""
    from benchmarks.data import steady
    from jobs.ray_env import connected

    results: dict[str, dict[str, float | str]] = {}
    reader = Small(256, options.latency_ms / 1e3)
    print(f"\nsimulation: each image arrives after {options.latency_ms:.0f} ms\nworkers  samples/s  efficiency")
    with connected(num_cpus=2 * max(options.workers)):
        from pipeline.data.ray_data import dataset  # after connecting: Ray reads its token when first imported

        rates: dict[int, list[float]] = {workers: [] for workers in options.workers}
        for _ in range(options.repeats):
            for workers in options.workers:
                rows = dataset(reader, config(), range(10 * workers), actors=workers, num_cpus=0.5)
                ticks = [
                    (time.monotonic(), len(batch["index"]))
                    for batch in rows.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=1)
                ]
                rates[workers].append(steady(ticks, 2 * workers))
    alone = statistics.median(rates[options.workers[0]]) / options.workers[0]
    for workers in options.workers:
        rate = statistics.median(rates[workers])
        print(f"{workers:>7}  {rate:9.1f}  {100 * rate / (workers * alone):9.1f} %")
        results[f"{workers} workers"] = {
            "value": rate,
            "unit": "samples/s",
            "baseline": workers * alone,
            "ratio": rate / (workers * alone),
        }
    return results


def main(options: Options) -> None:
    """Measure, print tables, write JSON."""
    if options.child:
        print(json.dumps(measure(options.child, options.windows)))
        return
    results: dict[str, dict[str, float | str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        if options.sizes:
            results |= by_size(options, Path(folder))
        if options.workers:
            results |= by_workers(options)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
