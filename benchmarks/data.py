"""`python -m benchmarks.data --reader coco_panoptic --root DIR`: training samples per second and core, with and
without Ray.

The plain loop makes windows and stacks them into batches in this process. Ray Data does the same in actors and hands
the batches to this process. The two alternate, and rates exclude the start (the first two windows). Images come from
memory (decoded once), from JPEG files with COCO annotations, and from the shards of jobs.prepare; crops are 448 pixels.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import tyro

from jobs.ray_env import connected
from models import rle
from models.storage import Storage
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.data.prepared.prepare import prepare, run_here
from pipeline.data.prepared.schema import encode_image
from pipeline.data.readers import open_reader
from pipeline.data.rows import collate
from pipeline.data.sample import Item, Reader, Sample
from pipeline.data.sampling import Order
from pipeline.data.windows import make_window

PUBLIC = {"three_gates": 63.0, "none": 131.0}
"""Samples per second and core of the public code without decoding, measured once on another machine."""
WARM_UP = 2


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the training stream."""

    reader: str = "scenes"
    """Format of the data set, one of READERS."""
    root: str | None = None
    """Folder of the data set."""
    split: str = ""
    """Split to read."""
    recipes: tuple[str, ...] = ("none", "exclusive", "three_gates")
    """Recipes of copy-paste."""
    sources: tuple[str, ...] = ("memory", "files", "shards")
    """Where the images come from."""
    fresh_partners: bool = False
    """Augment a partner again for each paste, as the public code does."""
    windows: int = 12
    """Windows per measurement, of 64 samples each, after two to warm up."""
    workers: tuple[int, ...] = (1, 2)
    """Sizes of the Ray pool."""
    repeats: int = 3
    """Measurements per figure, of which the median counts."""
    images: int = 200
    """Maximum number of images."""
    json: Path | None = None
    """File to write the results to."""
    options: dict[str, str] = field(default_factory=dict)
    """Further settings of the reader."""


class Memory:
    """A data set of decoded images in memory."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = {sample.id: sample for sample in samples}

    def items(self) -> list[Item]:
        """List the samples."""
        return [Item(id=key, object_ids=tuple(o.id for o in s.objects)) for key, s in sorted(self.samples.items())]

    def load(self, item: Item) -> Sample:
        """Return the sample."""
        return self.samples[item.id]


def write_files(samples: Sequence[Sample], folder: Path) -> None:
    """Write a COCO data set whose images are the bytes of the original files."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number, sample in enumerate(samples, start=1):
        (folder / "images" / f"{number}.jpg").write_bytes(encode_image(sample))
        height, width = sample.image.shape[:2]
        images.append({"id": number, "file_name": f"{number}.jpg", "height": height, "width": width})
        for ref in sample.objects:
            segmentation = rle.encode(sample.object_mask(ref))
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "segmentation": segmentation}
            )
    (folder / "annotations.json").write_text(json.dumps({"images": images, "annotations": annotations}))


def plain(reader: Reader, config: DataConfig, num_windows: int) -> float:
    """Return the samples per second of the plain loop."""
    items = reader.items()
    order = Order.of(items, config.window_size, config.seed)
    ticks: list[tuple[float, int]] = []
    for window in islice(order.windows(), num_windows + WARM_UP):
        batch = collate(make_window(items, reader, config, window))
        ticks.append((time.monotonic(), len(batch["index"])))
    return steady(ticks)


def with_ray(reader: Reader, config: DataConfig, num_windows: int, workers: int) -> float:
    """Return the samples per second that arrive from a pool of Ray actors."""
    from pipeline.data.ray_data import dataset

    rows = dataset(reader, config, range((num_windows + WARM_UP) * workers), actors=workers)
    ticks = [
        (time.monotonic(), len(batch["index"]))
        for batch in rows.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=1)
    ]
    return steady(ticks, WARM_UP * workers)


def steady(ticks: Sequence[tuple[float, int]], warm_up: int = WARM_UP) -> float:
    """Return the rate between the end of the warm-up and the last batch; `ticks`: (time of arrival, samples)."""
    (started, _), rest = ticks[warm_up - 1], ticks[warm_up:]
    return sum(count for _, count in rest) / (rest[-1][0] - started)


def sources(options: Options, folder: Path) -> Iterator[tuple[str, Reader]]:
    """Make the data sets to read from."""
    reader = open_reader(options.reader, options.root, options.split, options.options)
    samples = [reader.load(item) for item in reader.items()[: options.images]]
    samples = [sample for sample in samples if sample.objects]
    if "memory" in options.sources:
        yield "memory", Memory(samples)
    write_files(samples, folder / "files")
    files = open_reader("coco", str(folder / "files"))
    if "files" in options.sources:
        yield "files", files
    if "shards" in options.sources:
        prepare(files, Storage(str(folder / "shards")), {}, run=run_here())
        yield "shards", open_reader("prepared", str(folder / "shards"))


def main(options: Options) -> None:
    """Measure, print a table, write JSON."""
    import cv2

    cv2.setNumThreads(1)
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    results: dict[str, dict[str, float | str]] = {}
    heads = "".join(f"  Ray, {n} worker{'s' if n > 1 else ' '}  share" for n in options.workers)
    print(f"{'recipe':<12} {'from':<7} plain loop {heads}")
    with tempfile.TemporaryDirectory() as folder, connected():
        for source, reader in sources(options, Path(folder)):
            for recipe in options.recipes:
                config = DataConfig(
                    crop_hw=(448, 448),
                    window_size=64,
                    copy_paste=CopyPasteConfig(recipe=recipe),
                    fresh_partners=options.fresh_partners,
                )
                rates: dict[int, list[float]] = {0: [], **{n: [] for n in options.workers}}
                for _ in range(options.repeats):
                    rates[0].append(plain(reader, config, options.windows))
                    for workers in options.workers:
                        rates[workers].append(with_ray(reader, config, options.windows, workers))
                loop = statistics.median(rates[0])
                line = f"{recipe:<12} {source:<7} {loop:7.1f}/s "
                name = f"{recipe} from {source}"
                public = PUBLIC.get(recipe)
                results[name] = {"value": loop, "unit": "samples/s per core"}
                if public is not None:
                    results[name] |= {"baseline": public, "ratio": loop / public}
                for workers in options.workers:
                    rate = statistics.median(rates[workers])
                    # The median of pairs measured one after the other, in which the load on the machine is similar.
                    share = 1 - statistics.median(
                        ray / (workers * alone) for ray, alone in zip(rates[workers], rates[0], strict=True)
                    )
                    line += f"  {rate:11.1f}/s   {100 * share:5.1f} %"
                    results[f"{name}, Ray with {workers}"] = {
                        "value": rate,
                        "unit": "samples/s",
                        "baseline": loop * workers,
                        "ratio": rate / (loop * workers),
                    }
                print(line + (f"   x {loop / public:.1f} of the public loop" if public else ""), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
