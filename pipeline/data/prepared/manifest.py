"""What a prepared data set says of itself: manifest.json, written last, and a record beside each shard."""

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
    """One Parquet file: its row groups' sizes, and what went into it and what did not."""

    name: str
    group_rows: list[int]
    num_objects: int
    num_bytes: int
    sha256: str
    refused: list[str]
    """Items and objects that were not used, "id: reason" each."""
    counts: dict[str, int] = field(default_factory=dict)
    """What else the maker of the shard counted."""

    @property
    def num_rows(self) -> int:
        """How many images (or samples) the shard holds."""
        return sum(self.group_rows)

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Shard":
        """Read one from a record's JSON; what an older one lacks has its default."""
        return cls(**{f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values})


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The whole data set: shards in their order, and the settings that made them."""

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
                # Reasons stand in refused.jsonl; here they would make a manifest of every mistake of a data set.
                "shards": [{**dataclasses.asdict(shard), "refused": len(shard.refused)} for shard in self.shards],
            },
        )


def read_manifest(storage: Storage) -> dict[str, Any]:
    """Read and check manifest.json; InputError if the folder is no finished prepared data set."""
    if not storage.exists(MANIFEST):
        unfinished = " (its preparation has not finished: run the same command again)" if storage.exists("plan") else ""
        raise InputError(f"{storage.path()} holds no {MANIFEST}{unfinished}; expected what jobs.prepare writes")
    manifest = storage.read_json(MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise InputError(f"{storage.path(MANIFEST)} is no manifest of a prepared data set (kind {KIND!r})")
    if manifest["schema_version"] != VERSION:
        raise InputError(
            f"{storage.path()} has schema version {manifest['schema_version']}, this program reads {VERSION}: "
            "prepare the data set again"
        )
    return manifest


def decoding_of(manifest: dict[str, Any]) -> Decoding:
    """How image files were read when the data set was made; of before that was recorded, 16 bits counted."""
    return Decoding(**{"bit_depth": 16, **_decoding(manifest)})


def exif_of(manifest: dict[str, Any]) -> str:
    """By which rule photos were turned when the data set was made; "" of before there was one."""
    return str(_decoding(manifest).get("exif", ""))


def _decoding(manifest: dict[str, Any]) -> dict[str, Any]:
    # An epoch's settings are those of a training stream.
    settings = manifest["settings"].get("data") or manifest["settings"]
    names = (field.name for field in dataclasses.fields(Decoding))
    return {name: settings[name] for name in names if name in settings}
