"""`python -m benchmarks.data_scale`: does the training stream cost the same at a million rows, and at four workers?

Size: prepared data sets of 10^3 to 10^6 rows (one shard of small images, listed as often as the size asks for), the
plain stream over them in a fresh process each: CPU time per sample, time to list, to plan an epoch and make its first
row (or one in its middle, as a resumed run does), peak memory. Workers: Ray's pool of
1, 2 and 4 over images that take a fixed time to arrive, as from a store far away; the CPUs of a small machine would
measure nothing else. That is a simulation: it shows what the pool itself costs.
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
    """What is measured."""

    sizes: tuple[int, ...] = (1_000, 10_000, 100_000, 1_000_000)
    windows: int = 24
    """Windows per measurement, of 64 samples each."""
    repeats: int = 3
    workers: tuple[int, ...] = (1, 2, 4)
    latency_ms: float = 20.0
    """How long each image of the simulation takes to arrive."""
    child: str = ""
    """Internal: measure this folder and print JSON."""
    json: Path | None = None


@dataclass(frozen=True)
class Small:
    """Small images with two objects each; `latency` seconds pass before one is there."""

    num_items: int
    latency: float = 0.0
    names: list[str] = field(default_factory=list)

    def items(self) -> list[Item]:
        """List them."""
        return [Item(id=f"{n:06d}", object_ids=("a", "b"), payload={"n": n}) for n in range(self.num_items)]

    def load(self, item: Item) -> Sample:
        """Make one."""
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
    """Crops of the images' own size."""
    return DataConfig(
        crop_hw=HW, window_size=64, min_object_area=20, copy_paste=CopyPasteConfig(recipe="exclusive"), seed=3
    )


def measure(folder: str, windows: int) -> dict[str, float]:
    """Run in the child: stream some windows of an epoch's start, middle and end."""
    import resource

    from pipeline.data.local import stream

    def megabytes() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    reader = open_reader("prepared", folder)
    list(islice(stream(reader, config()), 64))  # imports, first use
    before = megabytes()
    started = time.monotonic()
    items = reader.items()
    listed = time.monotonic() - started
    used, count, first = 0.0, 0, []
    for part in (0, 1, 2):
        begun = time.monotonic()
        rows = stream(reader, config(), part * (len(items) - 64) // 2, items=items)
        next(rows)  # plans the epoch: its permutation, and where each window begins
        first.append(time.monotonic() - begun)
        begun = time.process_time()
        count += sum(1 for _ in islice(rows, windows * 64 // 3))
        used += time.process_time() - begun
    found = {"ms": 1e3 * used / count, "list_s": listed, "base_mb": before, "peak_mb": megabytes()}
    return found | {"start_s": first[0], "middle_s": first[1]}


def repeated(source: Path, target: Path, times: int) -> None:
    """Make a data set that lists the one shard of `source` so many times."""
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
    """Cost and memory at each size."""
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
    """Samples per second of pools of several sizes, where images arrive slowly."""
    from benchmarks.data import steady
    from jobs.ray_env import connected

    results: dict[str, dict[str, float | str]] = {}
    reader = Small(256, options.latency_ms / 1e3)
    print(f"\nimages arrive after {options.latency_ms:.0f} ms each (a simulation)\nworkers  samples/s  efficiency")
    with connected(num_cpus=2 * max(options.workers)):
        from pipeline.data.ray_data import dataset  # not before: Ray reads its token when it is first imported

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
