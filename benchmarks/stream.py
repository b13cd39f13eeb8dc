"""`python -m benchmarks.stream`: training samples per second, the stream on Ray Data against a plain loop.

Both make the same windows of generated scenes (or of --reader / --root), alternately, in one process tree.
"""

import json
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from jobs.ray_env import connected
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.data.local import stream
from pipeline.data.readers import open_reader


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare the two ways to run the stream."""

    reader: str = "scenes"
    root: str | None = None
    windows: int = 24
    """Windows per measurement, of 32 samples each."""
    actors: int = 2
    repeats: int = 3
    json: Path | None = None


def main(options: Options) -> None:
    """Measure, print a table, write JSON."""
    reader = open_reader(options.reader, options.root)
    plain = DataConfig(reader=options.reader, root=options.root, crop_hw=(448, 448), window_size=32)
    results = {}
    with connected():
        from pipeline.data.ray_data import dataset

        for name, config in (
            ("without copy-paste", plain),
            ("with SUEM", replace(plain, copy_paste=CopyPasteConfig(recipe="exclusive"))),
        ):
            items = list(reader.items())
            config = replace(config, window_size=min(32, len(items)))
            rates: dict[str, list[float]] = {"loop": [], "ray": []}
            for _ in range(options.repeats):
                count, started = options.windows * config.window_size, time.monotonic()
                for number, _row in enumerate(stream(reader, config, items=items), start=1):
                    if number == count:
                        break
                rates["loop"].append(count / (time.monotonic() - started))
                rows = dataset(reader, config, range(options.windows), actors=options.actors, items=items)
                started, done, first = time.monotonic(), 0, 0.0
                for batch in rows.iter_batches(batch_size=32, batch_format="numpy"):
                    done += len(batch["index"])
                    first = first or time.monotonic()
                steady = (done - 32) / max(1e-9, time.monotonic() - first)
                rates["ray"].append(steady)
            loop, ray = (statistics.median(rates[key]) for key in ("loop", "ray"))
            results[name] = {"value": ray, "unit": "samples/s", "baseline": loop, "ratio": ray / loop}
            print(
                f"{name:<20} plain loop {loop:6.1f}/s   Ray Data, {options.actors} actors {ray:6.1f}/s   "
                f"x{ray / loop:.2f}"
            )
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
