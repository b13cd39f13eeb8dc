"""`python -m jobs.augment [PRESET] --data.root DIR --out DIR`: write an epoch of the training stream, or a preview."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from jobs.cli import Flagged, data_root, location, parse, run_job
from jobs.config import for_reader_of
from jobs.datasets import absolute, settle_floor
from jobs.prepare import PLACE, CountItems, on_ray, show_counted, show_parts
from jobs.presets import PRESETS
from models.errors import InputError, lookup
from models.records import Count, Factor, Positive
from models.storage import Storage, without_key
from pipeline.data.config import AUTO, DataConfig
from pipeline.data.leave_out import training_reader
from pipeline.data.prepared.epoch_plan import EpochRows, list_items, plan_epoch
from pipeline.data.prepared.manifest import MANIFEST, read_manifest
from pipeline.data.prepared.parts import finished
from pipeline.data.prepared.prepare import make_parts
from pipeline.data.sample import Reader
from pipeline.nodes import placed
from pipeline.saved import Settings

DEFAULT = "cfr_icl_vit_base"
DESCRIPTION = f"""Write one epoch of the training stream as Parquet shards, or a preview of it.

PRESET, the first argument, is a preset of jobs.train; its --data settings become the defaults, so that the same flags
give the samples that training would see. The default is {DEFAULT}.

Presets: {", ".join(PRESETS)}."""


@dataclass(frozen=True, kw_only=True)
class AugmentJob(Flagged):
    """Write one epoch of the training stream as Parquet shards, or a preview of it."""

    data: DataConfig = field(default_factory=DataConfig)
    out: str = ""
    """Folder or address (s3://BUCKET/FOLDER) to write to. To resume an interrupted job, give the same one again."""
    epoch: Count = 0
    """Epoch to write, counted from 0. Every epoch shows each image once; order, augmentation and pastes differ."""
    preview: Count = 0
    """Write a preview instead, with so many samples of each copy-paste mode; 0: write the epoch."""
    image_format: Literal["png", "jpg"] = "png"
    """Format of stored images: png is exact; jpg (quality 95) needs a third of the space and alters pixels a little."""
    windows_per_shard: Positive = 4
    """Windows of the training stream (--data.window-size samples each) per shard."""
    rows_per_group: Positive = 16
    """Samples per Parquet row group, which is read as a unit."""
    actors: Count = 0
    """Maximum number of workers; 0: one per CPU of a separate Ray, 8 on a cluster that was joined."""
    num_cpus: Factor = 1.0
    """CPUs reserved per worker."""
    nodes: str = ""
    """Nodes to run workers on: a custom resource (NAME) or a label (KEY=VALUE) that they have; empty: any node."""
    ray: str = ""
    """Address of the Ray cluster to join, or "local" to start a separate one. By default: RAY_ADDRESS, else the cluster
    that `ray start` recorded on this machine, else a separate one."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        placed(self.nodes)


def main(argv: Sequence[str]) -> int:
    """Parse the flags, write the epoch or its preview, and print a summary."""
    named = bool(argv) and not argv[0].startswith("-")
    preset, rest = (argv[0], argv[1:]) if named else (DEFAULT, argv)
    data = for_reader_of(rest, lookup("preset", preset, PRESETS)().data)
    job = parse(AugmentJob, rest, prog="augment", default=AugmentJob(data=data), description=DESCRIPTION)
    if not job.out:
        raise InputError("--out is missing: name the folder or the address (s3://BUCKET/FOLDER) to write to")
    data = dataclasses.replace(
        job.data,
        root=data_root("--data.root", job.data.root),
        leave_out=tuple(absolute("--data.leave-out", text) for text in job.data.leave_out),
    )
    job = dataclasses.replace(job, data=data)
    reader = training_reader(data)
    storage = Storage(location("--out", job.out))
    return preview(job, reader, storage) if job.preview else materialise(job, reader, storage)


def preview(job: AugmentJob, reader: Reader, storage: Storage) -> int:
    """Write the contact sheet and its page."""
    from pipeline.data.preview import find_examples
    from pipeline.pages.preview_page import write_preview

    listed = CountItems()
    items = list_items(reader, listed)
    listed.end()
    data = settle_floor(job.data, reader, items, None)
    examples = find_examples(
        reader,
        items,
        data,
        epoch=job.epoch,
        wanted=job.preview,
        progress=lambda done, most: print(f"window {done} of at most {most} done", flush=True),
    )
    names = write_preview(storage, examples, data, f"{_name(data)}: epoch {job.epoch} as training sees it")
    print(f"samples without an object: {examples.num_empty} of {examples.num_rows}")
    for mode in examples.by_mode:
        print(f"{mode:<10} {examples.caption(mode)}")
    print("\n".join(storage.path(name) for name in names))
    return 0


def materialise(job: AugmentJob, reader: Reader, storage: Storage) -> int:
    """Write the epoch's shards, then the report."""
    from jobs.ray_env import connected
    from pipeline.pages.data_report import write_epoch_report

    items = reader.items() if job.data.min_object_area == AUTO else ()
    job = dataclasses.replace(job, data=settle_floor(job.data, reader, items, settings_in(storage)))
    settings = settings_of(job)
    if not finished(storage, settings):
        listed = CountItems()
        num_parts = plan_epoch(reader, storage, job.data, job.epoch, job.windows_per_shard, listed)
        listed.end()
        maker = EpochRows(
            reader=reader, storage=storage, config=job.data, epoch=job.epoch, image_format=job.image_format
        )
        with storage.tidied(), connected(job.ray):
            run = on_ray(job.rows_per_group, job.actors, job.num_cpus, job.nodes)
            make_parts(maker, storage, settings, num_parts, run, show_parts)
    manifest = read_manifest(storage)
    counts = "".join(f"\n  {name:<24} {count}" for name, count in sorted(manifest["counts"].items()))
    size = f"{manifest['num_bytes'] / 1e6:.1f} MB in {len(manifest['shards'])} shards"
    print(f"{storage.path()}: {manifest['num_rows']} rows, {size}{counts}")
    if manifest["num_refused"]:
        print(f"refused {manifest['num_refused']} items or objects; they are listed in {storage.path('refused.txt')}")
    title = f"{_name(job.data)}: epoch {job.epoch} as training sees it"
    name = write_epoch_report(storage, job.data, title, show_counted)
    print(f"report  {storage.path(name)}")
    return 0


def settings_in(storage: Storage) -> Any:
    """Read the settings of the epoch in a folder, finished or not; None if there is none."""
    for name in (MANIFEST, "settings.json"):
        if storage.exists(name):
            found = storage.read_json(name)
            return found.get("settings") if isinstance(found, dict) else None
    return None


def settings_of(job: AugmentJob) -> Settings:
    """Return every setting that determines the rows of an epoch."""
    return Settings(job, without=("out", "preview", *PLACE), more={"job": "augment"})


def _name(data: DataConfig) -> str:
    return f"{data.reader} {without_key(data.root)}" if data.root else data.reader


if __name__ == "__main__":
    run_job(main)
