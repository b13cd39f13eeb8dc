"""`python -m jobs.prepare --reader NAME --root DIR --out DIR`: write a data set as Parquet shards, on disk or in S3."""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobs.cli import Flagged, data_root, location, parse, progress_line, run_job
from jobs.ray_env import connected, fit_actors, refuse_nodes
from models.decoding import Decoding
from models.errors import lookup
from models.records import Count, Factor, Positive
from models.storage import Storage, without_key
from pipeline.data.mois import MoisConfig
from pipeline.data.prepared.parts import PartMaker
from pipeline.data.prepared.prepare import prepare
from pipeline.data.prepared.stages import STAGES
from pipeline.data.readers import open_reader
from pipeline.nodes import placed
from pipeline.pages.data_report import write_prepared_report
from pipeline.saved import Settings

PLACE = ("actors", "num_cpus", "nodes", "ray")
"""Flags that say where a job runs; they do not change what is written."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(Flagged, Decoding):
    """Write a data set as Parquet shards with encoded images, checked masks and their origin."""

    reader: str
    """Format of the data set, one of READERS (docs/DATASETS.md)."""
    root: str | None = None
    """Folder or address of the data set; readers that generate images take none."""
    split: str = ""
    """Split to read; default: the reader's own default."""
    options: dict[str, str] = field(default_factory=dict)
    """Further settings of the reader, as --options KEY VALUE ..."""
    out: str
    """Folder or address (s3://BUCKET/FOLDER) to write to. To resume an interrupted job, give the same one again."""
    stage: str = "as_read"
    """What to store per image: as_read, one row with all its objects; or mois (iCMFormer++'s COCO-MOIS), one row per
    category with several objects, one of which is the exemplar."""
    mois: MoisConfig = field(default_factory=MoisConfig)
    images_per_shard: Positive = 512
    """Images per shard, that is per Parquet file."""
    images_per_group: Positive = 16
    """Images per Parquet row group, which is read as a unit: large for a distant bucket, small for a better shuffle."""
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
        lookup("stage", self.stage, STAGES)


def main(argv: Sequence[str]) -> int:
    """Parse the flags, prepare the data set, and print a summary."""
    config = parse(PrepareConfig, argv, prog="prepare")
    root = data_root("--root", config.root)
    reader = open_reader(config.reader, root, config.split, config.options, config)
    decoding = getattr(reader, "decoding", config.decoding())  # --options can also set its fields
    storage = Storage(location("--out", config.out))
    listed = CountItems()

    def progress(done: int, total: int, sums: dict[str, int]) -> None:
        listed.end()
        show_parts(done, total, sums)

    with storage.tidied(), connected(config.ray):
        manifest = prepare(
            reader,
            storage,
            settings_of(dataclasses.replace(config, **dataclasses.asdict(decoding)), root),
            run=on_ray(config.images_per_group, config.actors, config.num_cpus, config.nodes),
            stage=STAGES[config.stage](config.mois),
            items_per_part=config.images_per_shard,
            listed=listed,
            progress=progress,
        )
    counts = "".join(f", {name.replace('_', ' ')} {count}" for name, count in manifest["counts"].items() if count)
    print(
        f"{storage.path()}: {manifest['num_rows']} images, {manifest['num_objects']} objects{counts}, "
        f"{manifest['num_bytes'] / 1e6:.1f} MB in {len(manifest['shards'])} shards"
    )
    if manifest["num_refused"]:
        print(f"refused {manifest['num_refused']} items or objects; they are listed in {storage.path('refused.txt')}")
    title = f"{config.reader}{f' {without_key(root)}' if root else ''}{f', {config.split}' if config.split else ''}"
    name = write_prepared_report(storage, title, show_counted)
    print(f"report  {storage.path(name)}")
    return 0


def settings_of(config: PrepareConfig, root: str | None) -> Settings:
    """Return every setting that determines what is prepared; the manifest stores them."""
    return Settings(
        dataclasses.replace(config, root=root and without_key(root)),
        without=("out", *PLACE),
        more={} if config.stage == "mois" else {"mois": None},
    )


class CountItems:
    """Prints the progress of a long listing: a line that is overwritten on a terminal, else one at each doubling."""

    def __init__(self) -> None:
        self.shown = self.last = 0

    def __call__(self, num_items: int) -> None:
        """Report the number of items listed so far."""
        self.last = num_items
        if sys.stdout.isatty() and num_items >= self.shown + 500:
            print(f"\r\033[Klisted {num_items} images", end="", flush=True)
            self.shown = num_items
        elif not sys.stdout.isatty() and num_items >= max(1000, 2 * self.shown):
            print(f"listed {num_items} images", flush=True)
            self.shown = num_items

    def end(self) -> None:
        """Print the total once; nothing if no items were listed."""
        if self.last:
            start = "\r\033[K" if sys.stdout.isatty() else ""
            print(f"{start}listed {self.last} images", flush=True)
            self.last = 0


def on_ray(rows_per_group: int, actors: int, num_cpus: float, nodes: str) -> Any:
    """Return a function that runs parts on Ray, in a pool of at most `actors` (0: see `fit_actors`) on `nodes`."""

    def run(maker: PartMaker, storage: Storage, parts: Sequence[int]) -> Iterator[dict[str, int]]:
        from pipeline.data.ray_parts import run_parts

        refuse_nodes("--nodes", nodes)
        most, share = fit_actors(actors, num_cpus, len(parts))
        pool = {"actors": (1, most), "num_cpus": share, "options": placed(nodes)}
        yield from run_parts(maker, storage, parts, rows_per_group=rows_per_group, **pool)

    return run


def show_parts(done: int, total: int, sums: dict[str, int]) -> None:
    """Print progress: the shards done, and the sums of this run."""
    note = f"{sums['rows']} rows, {sums['objects']} objects, {sums['refused']} refused"
    progress_line("shards", done, total, note)


def show_counted(done: int, total: int) -> None:
    """Print the progress of counting the written shards."""
    progress_line("counted", done, total, "shards")


if __name__ == "__main__":
    run_job(main)
