"""Write rows as shards, part by part: a part that has a record is finished and is not made again.

An unfinished folder holds data/part-N.parquet and, written after it, records/part-N.json; manifest.json comes last. The
maker of a part (for jobs.prepare or jobs.augment) yields rows, and a text "id: reason" for each refusal.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import InputError
from models.storage import Storage
from pipeline.data.prepared.manifest import MANIFEST, Manifest, Shard
from pipeline.saved import differences

GROUP_BYTES = 32 * 2**20
"""A row group is closed at this many bytes of images even if it has few rows, because readers hold one in memory."""

Made = dict[str, Any] | str | Counter[str]
"""A row, a refusal, or counts to add to those of the manifest."""


class PartMaker(Protocol):
    """Makes the rows of a part, always the same ones; it is sent to the workers, so it holds little."""

    @property
    def schema(self) -> pa.Schema:
        """Columns of the rows."""
        ...

    def rows(self, part: int) -> Iterator[Made]:
        """Yield rows of the schema (with an `image` and `objects`), refusals as texts, and counts."""
        ...


def write_part(maker: PartMaker, storage: Storage, part: int, rows_per_group: int) -> Shard:
    """Make a part, write its shard and then its record; raises InputError if the storage is full or gone."""
    name = f"data/part-{part:06d}.parquet"
    rows = _Rows(maker.rows(part))
    sizes: list[int] = []
    num_objects = num_bytes = 0
    sha256 = ""
    first = rows.group(rows_per_group)
    if first:
        with storage.writing(name) as file:
            sink = _Hashing(file)
            group: list[dict[str, Any]] = first
            with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), maker.schema, compression="zstd") as writer:
                while group:
                    # Images are already compressed, and a dictionary of them would double the memory.
                    writer.write_table(pa.Table.from_pylist(group, schema=maker.schema))
                    sizes.append(len(group))
                    num_objects += sum(len(row["objects"]) for row in group)
                    group = rows.group(rows_per_group)
            num_bytes, sha256 = sink.num_bytes, sink.digest.hexdigest()
    shard = Shard(
        name=name if sizes else "",
        group_rows=sizes,
        num_objects=num_objects,
        num_bytes=num_bytes,
        sha256=sha256,
        refused=rows.refused,
        counts=dict(rows.counts),
    )
    storage.write_json(_record(part), dataclasses.asdict(shard))
    return shard


def missing_parts(storage: Storage, num_parts: int) -> list[int]:
    """Return the numbers of the parts that have no record yet."""
    done = set(storage.names("records", ".json"))
    return [part for part in range(num_parts) if _record(part) not in done]


def finished(storage: Storage, settings: dict[str, Any]) -> bool:
    """Whether the folder is finished; raises InputError if it was started or finished with other settings.

    `settings` are as in `pipeline.saved.differences`.
    """
    for name in (MANIFEST, "settings.json"):
        if storage.exists(name):
            found = storage.read_json(name)
            if other := differences(found.get("settings") if isinstance(found, dict) else None, settings):
                raise InputError(
                    f"{storage.path(name)} has other settings ({other}): use those again, or another --out"
                )
            if name == MANIFEST:
                return True
    storage.tidy()
    storage.write_json("settings.json", {"settings": settings})
    return False


def finish(storage: Storage, settings: dict[str, Any], num_parts: int) -> Manifest:
    """Join the records: write refused.txt, then manifest.json, then remove what only the run needed."""
    records = [Shard.of(storage.read_json(_record(part))) for part in range(num_parts)]
    storage.write("refused.txt", "".join(f"{text}\n" for shard in records for text in shard.refused).encode())
    manifest = Manifest(settings=settings, shards=records)
    manifest.write(storage)
    storage.remove("plan")
    return manifest


def _record(part: int) -> str:
    return f"records/part-{part:06d}.json"


class _Rows:
    """Rows in groups; refusals and counts are collected on the way."""

    def __init__(self, made: Iterator[Made]) -> None:
        self.made, self.refused, self.counts = made, list[str](), Counter[str]()

    def group(self, num_rows: int) -> list[dict[str, Any]]:
        """Return the next rows, at most `num_rows` and fewer if they are large; none at the end."""
        group: list[dict[str, Any]] = []
        size = 0
        for made in self.made:
            if isinstance(made, str):
                self.refused.append(made)
                continue
            if isinstance(made, Counter):
                self.counts.update(made)
                continue
            group.append(made)
            size += len(made["image"])
            if len(group) == num_rows or size >= GROUP_BYTES:
                break
        return group


class _Hashing:
    """A file that hashes and counts what is written to it."""

    def __init__(self, file: Any) -> None:
        self.file, self.digest, self.num_bytes, self.closed = file, hashlib.sha256(), 0, False

    def write(self, data: Any) -> int:
        self.digest.update(data)
        self.num_bytes += len(data)
        self.file.write(data)
        return len(data)

    def tell(self) -> int:
        return self.num_bytes

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


def total(shards: Sequence[Shard]) -> tuple[int, int, int]:
    """Return the numbers of rows, objects and refusals of some shards."""
    return (
        sum(shard.num_rows for shard in shards),
        sum(shard.num_objects for shard in shards),
        sum(len(shard.refused) for shard in shards),
    )
