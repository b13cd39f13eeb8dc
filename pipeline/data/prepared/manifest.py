"""The records of a prepared data set: manifest.json, which is written last, and one record beside each shard."""

import dataclasses
import hashlib
from dataclasses import dataclass, field
from typing import Any

from models.decoding import Decoding
from models.errors import InputError
from models.storage import Storage
from pipeline.data.prepared.schema import VERSION

MANIFEST = "manifest.json"
KIND = "maskwright.prepared"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One Parquet file: the sizes of its row groups, its contents in numbers, and what was refused."""

    name: str
    group_rows: list[int]
    num_objects: int
    num_bytes: int
    sha256: str
    refused: list[str]
    """Items and objects that were not used, as "id: reason"."""
    counts: dict[str, int] = field(default_factory=dict)
    """Further counts of the shard's maker."""

    @property
    def num_rows(self) -> int:
        """Number of images (or samples) in the shard."""
        return sum(self.group_rows)

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Shard":
        """Read a shard from its record's JSON; fields that an older record lacks get their defaults."""
        return cls(**{f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values})


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The whole data set: its shards in order, and the settings that made them."""

    settings: dict[str, Any]
    shards: list[Shard]

    def write(self, storage: Storage) -> None:
        """Write manifest.json; a folder without one is unfinished."""
        counts: dict[str, int] = {}
        for shard in self.shards:
            for name, count in shard.counts.items():
                counts[name] = counts.get(name, 0) + count
        storage.write_json(
            MANIFEST,
            {
                "kind": KIND,
                "schema_version": VERSION,
                "num_rows": sum(shard.num_rows for shard in self.shards),
                "num_objects": sum(shard.num_objects for shard in self.shards),
                "num_bytes": sum(shard.num_bytes for shard in self.shards),
                "num_refused": sum(len(shard.refused) for shard in self.shards),
                "counts": counts,
                "sha256": hashlib.sha256("".join(shard.sha256 for shard in self.shards).encode()).hexdigest(),
                "settings": self.settings,
                # Reasons are in refused.txt; a data set with many of them would make a huge manifest.
                "shards": [{**dataclasses.asdict(shard), "refused": len(shard.refused)} for shard in self.shards],
            },
        )


def read_manifest(storage: Storage) -> dict[str, Any]:
    """Read and check manifest.json; raises InputError if the folder is not a finished prepared data set."""
    if not storage.exists(MANIFEST):
        unfinished = " (its preparation has not finished: run the same command again)" if storage.exists("plan") else ""
        raise InputError(f"{storage.path()} holds no {MANIFEST}{unfinished}; expected the output of jobs.prepare")
    manifest = storage.read_json(MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise InputError(f"{storage.path(MANIFEST)} is not the manifest of a prepared data set (kind {KIND!r})")
    if manifest["schema_version"] != VERSION:
        raise InputError(
            f"{storage.path()} has schema version {manifest['schema_version']}, this program reads {VERSION}: "
            "prepare the data set again"
        )
    return manifest


def decoding_of(manifest: dict[str, Any]) -> Decoding:
    """Return how image files were decoded when the data set was made; before this was recorded, bit_depth was 16."""
    return Decoding(**{"bit_depth": 16, **_decoding(manifest)})


def exif_of(manifest: dict[str, Any]) -> str:
    """Return the `exif` setting with which the data set was made, or "" if that was before there was one."""
    return str(_decoding(manifest).get("exif", ""))


def _decoding(manifest: dict[str, Any]) -> dict[str, Any]:
    # The settings of an epoch are those of a training stream.
    settings = manifest["settings"].get("data") or manifest["settings"]
    names = (field.name for field in dataclasses.fields(Decoding))
    return {name: settings[name] for name in names if name in settings}
