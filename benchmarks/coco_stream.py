"""`python -m benchmarks.coco_stream`: memory and speed of listing a large COCO file, streamed and read as a whole.

Files of short polygons, 20 per image in random order, are written to a temporary folder. Each is listed in a separate
process, whose peak memory is read at its end. Reading as a whole is measured up to --whole annotations.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

from pipeline.data.readers import coco_tables, open_reader
from pipeline.data.sample import stream_items

PER_IMAGE = 20


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the listing of COCO files of growing size."""

    annotations: int = 1_000_000
    """Annotations in the largest file; before it come files of 100,000 and powers of ten above."""
    whole: int = 1_000_000
    """Largest number of annotations for which files are also read as a whole."""
    folder: Path | None = None
    """Folder for the file and the temporary database, some 600 bytes per annotation; default: the system's."""
    json: Path | None = None
    """File to write the results to."""


def write(path: Path, num_annotations: int) -> None:
    """Write a COCO file whose annotations are in random order and precede the images."""
    rng = random.Random(0)
    num_images = max(1, num_annotations // PER_IMAGE)
    with path.open("w") as file:
        file.write('{"categories": [{"id": 1, "name": "thing"}],\n"annotations": [')
        for number in range(num_annotations):
            x, y, size = rng.randrange(5600) / 10, rng.randrange(4000) / 10, rng.randrange(5, 60)
            corners = [x, y, x + size, y + 0.5, x + size, y + size, x + 0.5 * size, y + size + 0.25, x, y + size]
            record = {
                "id": number,
                "image_id": rng.randrange(num_images),
                "category_id": 1,
                "iscrowd": 0,
                "area": float(size * size),
                "bbox": [x, y, size, size],
                "segmentation": [corners],
            }
            file.write(f"{',' if number else ''}\n{json.dumps(record)}")
        file.write('],\n"images": [')
        for number in range(num_images):
            record = {"id": number, "file_name": f"{number:012d}.jpg", "height": 480, "width": 640}
            file.write(f"{',' if number else ''}\n{json.dumps(record)}")
        file.write("]}\n")


def list_one(root: str, stream_above: int) -> None:
    """List one file in this process and print the time and memory used."""
    coco_tables.STREAM_ABOVE = stream_above
    started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock, num_items, num_objects = time.monotonic(), 0, 0
    for item in stream_items(open_reader("coco", root)):
        num_items += 1
        num_objects += len(item.object_ids)
    seconds = time.monotonic() - clock
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"items": num_items, "objects": num_objects, "seconds": seconds, "rss": [started, peak]}))


def measure(root: Path, stream_above: int) -> dict[str, float]:
    """List one file in a fresh process: seconds, and MB before and at the peak."""
    code = f"from benchmarks.coco_stream import list_one; list_one({str(root)!r}, {stream_above})"
    environment = {**os.environ, "TMPDIR": str(root)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    found = json.loads(done.stdout)
    start, peak = (kilobytes / 1024 for kilobytes in found["rss"])
    return {"seconds": found["seconds"], "objects": found["objects"], "start": start, "peak": peak}


def main(options: Options) -> None:
    """Measure, print a table, write JSON."""
    sizes = [size for size in (10**power for power in range(5, 10)) if size < options.annotations]
    results = {}
    first_peak = 0.0
    columns = "annotations", "file MB", "", "seconds", "per second", "peak MB", "at start"
    print("{:>12} {:>8} {:>9} {:>8} {:>11} {:>8} {:>10}".format(*columns))
    for size in [*sizes, options.annotations]:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            path = Path(folder) / "annotations.json"
            write(path, size)
            file_mb = path.stat().st_size / 1e6
            whole = measure(Path(folder), sys.maxsize) if size <= options.whole else None
            streamed = measure(Path(folder), 0)
        for name, taken in (("whole", whole), ("streamed", streamed)):
            if taken is not None:
                assert taken["objects"] == size
                print(
                    f"{size:>12,} {file_mb:>8.0f} {name:>9} {taken['seconds']:>8.1f} {size / taken['seconds']:>11,.0f} "
                    f"{taken['peak']:>8.0f} {taken['start']:>10.0f}"
                )
        first_peak = first_peak or streamed["peak"]
        results[f"peak memory, {size} annotations"] = {
            "value": streamed["peak"],
            "unit": "MB",
            "baseline": first_peak,
            "ratio": streamed["peak"] / first_peak,
        }
        speed = size / streamed["seconds"]
        before = size / whole["seconds"] if whole else None
        results[f"speed, {size} annotations"] = {
            "value": speed,
            "unit": "annotations/s",
            "baseline": before,
            "ratio": speed / before if before else None,
        }
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
