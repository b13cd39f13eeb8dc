"""`python -m jobs.prepare --reader NAME --root DIR --out DIR`: any data set into Parquet shards, or into a bucket."""

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
"""Where it runs, which decides nothing of what is written."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig(Flagged, Decoding):
    """Write a data set as Parquet shards: encoded images, checked masks, and where they come from."""

    reader: str
    """The data set's format, by its name in READERS."""
    root: str | None = None
    """Where it lies."""
    split: str = ""
    options: dict[str, str] = field(default_factory=dict)
    """More settings of the reader: --options KEY VALUE ..."""
    out: str
    """Folder or address (s3://BUCKET/FOLDER) to write to; one that was interrupted goes on if it is named again."""
    stage: str = "as_read"
    """What happens to an image before it is stored: as_read, or mois (iCMFormer++'s COCO-MOIS: a row for each
    category of which it has several objects, one of them the exemplar)."""
    mois: MoisConfig = field(default_factory=MoisConfig)
    images_per_shard: Positive = 512
    images_per_group: Positive = 16
    """Images that are read as one: large for a bucket far away, small for a better shuffle."""
    actors: Count = 0
    """Most workers at a time; 0: as many as there are CPUs, on a Ray that was joined 8."""
    num_cpus: Factor = 1.0
    """CPUs that a worker reserves."""
    nodes: str = ""
    """Nodes that workers run on: those that have a resource (NAME) or a label (KEY=VALUE); "": any."""
    ray: str = ""
    """Address of the Ray to join; local: a separate one. "": that of RAY_ADDRESS, else the one that `ray start`
    recorded here, else a separate one."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        placed(self.nodes)
        lookup("stage", self.stage, STAGES)


def main(argv: Sequence[str]) -> int:
    """Parse, prepare, tell what came out."""
    config = parse(PrepareConfig, argv, prog="prepare")
    root = data_root("--root", config.root)
    reader = open_reader(config.reader, root, config.split, config.options, config)
    decoding = getattr(reader, "decoding", config.decoding())  # --options may name its fields, too
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
        print(f"refused {manifest['num_refused']} items or objects, by name in {storage.path('refused.txt')}")
    title = f"{config.reader}{f' {without_key(root)}' if root else ''}{f', {config.split}' if config.split else ''}"
    name = write_prepared_report(storage, title, show_counted)
    print(f"report  {storage.path(name)}")
    return 0


def settings_of(config: PrepareConfig, root: str | None) -> Settings:
    """Everything that decides what is prepared; it becomes part of the manifest."""
    return Settings(
        dataclasses.replace(config, root=root and without_key(root)),
        without=("out", *PLACE),
        more={} if config.stage == "mois" else {"mois": None},
    )


class CountItems:
    """Show how far a long listing is: one line rewritten on a terminal, elsewhere a line whenever it has doubled."""

    def __init__(self) -> None:
        self.shown = self.last = 0

    def __call__(self, num_items: int) -> None:
        """Tell the number of items listed so far."""
        self.last = num_items
        if sys.stdout.isatty() and num_items >= self.shown + 500:
            print(f"\r\033[Klisted {num_items} images", end="", flush=True)
            self.shown = num_items
        elif not sys.stdout.isatty() and num_items >= max(1000, 2 * self.shown):
            print(f"listed {num_items} images", flush=True)
            self.shown = num_items

    def end(self) -> None:
        """Tell once how many there are in all; nothing if none were listed."""
        if self.last:
            start = "\r\033[K" if sys.stdout.isatty() else ""
            print(f"{start}listed {self.last} images", flush=True)
            self.last = 0


def on_ray(rows_per_group: int, actors: int, num_cpus: float, nodes: str) -> Any:
    """Run parts by a pool that grows to `actors` (0: as `fit_actors` says) on the nodes that `placed` reads."""

    def run(maker: PartMaker, storage: Storage, parts: Sequence[int]) -> Iterator[dict[str, int]]:
        from pipeline.data.ray_parts import run_parts

        refuse_nodes("--nodes", nodes)
        most, share = fit_actors(actors, num_cpus, len(parts))
        pool = {"actors": (1, most), "num_cpus": share, "options": placed(nodes)}
        yield from run_parts(maker, storage, parts, rows_per_group=rows_per_group, **pool)

    return run


def show_parts(done: int, total: int, sums: dict[str, int]) -> None:
    """Show progress: shards done, and what this run has put into them."""
    note = f"{sums['rows']} rows, {sums['objects']} objects, {sums['refused']} refused"
    progress_line("shards", done, total, note)


def show_counted(done: int, total: int) -> None:
    """Show progress of counting what came out."""
    progress_line("counted", done, total, "shards")


if __name__ == "__main__":
    run_job(main)
