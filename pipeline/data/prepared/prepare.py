"""Prepare a data set: list it, make its shards, and write its manifest. The caller passes in how parts are run."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from models.errors import InputError
from models.storage import Storage
from pipeline.data.prepared.manifest import MANIFEST
from pipeline.data.prepared.parts import PartMaker, finish, finished, missing_parts, write_part
from pipeline.data.prepared.plan import PlannedRows, make_plan
from pipeline.data.prepared.stages import AsRead, Stage
from pipeline.data.sample import Reader

RunParts = Callable[[PartMaker, Storage, Sequence[int]], Iterator[dict[str, int]]]
"""Makes parts and yields {"rows", "objects", "refused"} of each."""


def make_parts(
    maker: PartMaker,
    storage: Storage,
    settings: dict[str, Any],
    num_parts: int,
    run: RunParts,
    progress: Callable[[int, int, dict[str, int]], None] = lambda done, total, sums: None,
) -> dict[str, Any]:
    """Make the missing parts, finish the folder and return its manifest.

    `progress` is called with the parts done, the number of parts, and the sums of what this run has made. Raises
    InputError if no image could be used.
    """
    missing = missing_parts(storage, num_parts)
    sums = {"rows": 0, "objects": 0, "refused": 0}
    for done, made in enumerate(run(maker, storage, missing), start=num_parts - len(missing) + 1):
        sums = {name: sums[name] + made[name] for name in sums}
        progress(done, num_parts, sums)
    manifest = finish(storage, settings, num_parts)
    if not any(shard.group_rows for shard in manifest.shards):
        reasons = "; ".join([text for shard in manifest.shards for text in shard.refused][:3])
        raise InputError(f"nothing could be used: expected at least one image with an object; first reasons: {reasons}")
    return storage.read_json(MANIFEST)


def prepare(
    reader: Reader,
    storage: Storage,
    settings: dict[str, Any],
    *,
    run: RunParts,
    stage: Stage | None = None,
    items_per_part: int = 512,
    listed: Callable[[int], None] = lambda num_items: None,
    progress: Callable[[int, int, dict[str, int]], None] = lambda done, total, sums: None,
) -> dict[str, Any]:
    """Write the reader's data set into the storage, or resume an interrupted run; returns the manifest.

    On a restart `settings` must be the same: otherwise raises InputError and changes nothing.
    """
    if finished(storage, settings):
        return storage.read_json(MANIFEST)
    num_parts = make_plan(reader, storage, items_per_part, listed)
    maker = PlannedRows(reader=reader, storage=storage, stage=stage or AsRead())
    return make_parts(maker, storage, settings, num_parts, run, progress)


def run_here(rows_per_group: int = 16) -> RunParts:
    """Return a function that runs parts in this process, one after the other."""

    def run(maker: PartMaker, storage: Storage, parts: Sequence[int]) -> Iterator[dict[str, int]]:
        for part in parts:
            shard = write_part(maker, storage, part, rows_per_group)
            yield {"rows": shard.num_rows, "objects": shard.num_objects, "refused": len(shard.refused)}

    return run
