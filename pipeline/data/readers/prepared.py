"""A data set written by jobs.prepare: Parquet shards, local or in a bucket."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.decoding import AS_IT_COMES, Decoding
from models.errors import InputError
from models.storage import Storage
from pipeline.data.orientation import read_header
from pipeline.data.prepared.manifest import decoding_of, exif_of, read_manifest
from pipeline.data.prepared.unpack import RowGroup
from pipeline.data.readers.folders import missing_split
from pipeline.data.sample import Item, Sample

_logger = logging.getLogger(__name__)

_LOOKED_GROUPS = 16


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The prepared data set in the folder or at the address `root`; a `split` is a folder in it.

    Items have the order of the original data set. They lie in chunks, the row groups, which are read as a whole, so
    readers in any order should request the items of a chunk one after the other.
    """

    root: str = ""
    split: str = ""
    decoding: Decoding = AS_IT_COMES

    def __post_init__(self) -> None:
        if not self.root:
            raise InputError("reader 'prepared' needs a root folder and got none; expected the output of jobs.prepare")
        storage = Storage(self.root)
        if not storage.exists():
            raise InputError(f"root {self.root!r} does not exist; reader 'prepared' expects the output of jobs.prepare")
        if self.split and not storage.exists(self.split):
            expected = f"a folder {self.split!r} with the output of jobs.prepare"
            raise missing_split("prepared", self.split, [], expected)
        manifest = read_manifest(Storage(self._uri))
        made_with, taken = decoding_of(manifest).bit_depth, exif_of(manifest)
        if self.decoding.bit_depth not in (0, made_with):
            raise InputError(
                f"bit_depth is {self.decoding.bit_depth}, but the images of {self.root!r} were reduced to eight bits "
                f"with bit_depth {made_with}: prepare it again with --bit-depth {self.decoding.bit_depth}"
            )
        if self.decoding.exif not in ("auto", taken):
            raise InputError(
                f"exif is {self.decoding.exif}, but jobs.prepare has read the photos of {self.root!r} with "
                f"{taken or 'the rule of an earlier version'}: prepare it again with --exif {self.decoding.exif}"
            )

    @property
    def _uri(self) -> str:
        return _inside(self.root, self.split) if self.split else self.root

    def items(self) -> "PreparedItems":
        """List the images; reads only the manifest. Raises InputError if the preparation has not finished."""
        manifest = read_manifest(Storage(self._uri))
        shards = [shard for shard in manifest["shards"] if shard["group_rows"]]
        if not exif_of(manifest):
            _report_turned(self._uri, tuple((shard["name"], len(shard["group_rows"])) for shard in shards))
        return PreparedItems(
            self._uri,
            [shard["name"] for shard in shards],
            [list(shard["group_rows"]) for shard in shards],
            sum(shard["num_objects"] for shard in shards),
        )

    def load(self, item: Item) -> Sample:
        """Decode one image and its masks; raises BadItem if they are broken, InputError if the shard is gone."""
        payload = item.payload
        return _group(self._uri, payload["shard"], payload["group"]).sample(payload["row"], self.decoding)


class PreparedItems(Sequence[Item]):
    """The items of a prepared data set; none is held in memory, so a million cost as much as a thousand.

    `items[n]` reads the whole row group, which is usually loaded next; a loop over all items reads only their names.
    """

    def __init__(self, uri: str, shards: list[str], group_rows: list[list[int]], num_objects: int) -> None:
        self.uri, self.shards, self.num_objects = uri, shards, num_objects
        self.chunk_sizes = np.array([size for sizes in group_rows for size in sizes], np.int64)
        self._shard_of = np.repeat(np.arange(len(shards)), [len(sizes) for sizes in group_rows])
        self._group_of = np.array([group for sizes in group_rows for group in range(len(sizes))], np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self.chunk_sizes)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        chunk = int(np.searchsorted(self._starts, number, side="right")) - 1
        shard, group = self.shards[self._shard_of[chunk]], int(self._group_of[chunk])
        row = number - int(self._starts[chunk])
        found = _group(self.uri, shard, group)
        return _item(found.ids[row], [found.object_ids[k] for k in found.objects_of(row)], shard, group, row)

    def __iter__(self) -> Iterator[Item]:
        for number, shard in enumerate(self.shards):
            file = _file(self.uri, shard)
            for group in self._group_of[self._shard_of == number].tolist():
                table = file.read_row_group(group, columns=["id", "objects.list.element.id"])
                ids, objects = table.column("id").to_pylist(), table.column("objects").to_pylist()
                for row, (item_id, found) in enumerate(zip(ids, objects, strict=True)):
                    yield _item(item_id, [entry["id"] for entry in found], shard, group, row)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PreparedItems) and (self.uri, self.shards) == (other.uri, other.shards)

    __hash__ = None  # pyright: ignore[reportAssignmentType]


@lru_cache(maxsize=16)
def _report_turned(uri: str, shards: tuple[tuple[str, int], ...]) -> None:
    """Warn once if shards of an earlier version hold rotated photos as they were stored, which no setting decided then.

    Checks the photos of a few row groups, evenly spread, because checking all means reading all.
    """
    groups = [(name, group) for name, num_groups in shards for group in range(num_groups)]
    chosen: dict[str, list[int]] = {}
    for name, group in groups[:: max(1, len(groups) // _LOOKED_GROUPS)]:
        chosen.setdefault(name, []).append(group)
    num_turned = num_looked = 0
    for name, numbers in chosen.items():
        with contextlib.suppress(InputError, OSError, pa.ArrowException):  # reported when the shard is read
            file = _file(uri, name)
            for batch in file.iter_batches(batch_size=16, row_groups=numbers, columns=["height", "width", "image"]):
                for row in batch.to_pylist():
                    num_looked += 1
                    num_turned += _left_as_stored(row["image"], (row["height"], row["width"]))
    if num_turned:
        _logger.warning(
            "%s: of %d photos checked, %d carry an EXIF orientation and were stored as they are by an earlier version; "
            "if their masks fit the upright photos, prepare the data set again (--exif auto or upright)",
            Storage(uri).path(),
            num_looked,
            num_turned,
        )


def _left_as_stored(image: bytes, hw: tuple[int, int]) -> bool:
    try:
        header = read_header(image)
    except ValueError:  # a broken image is refused by name when it is loaded
        return False
    return header.orientation != 1 and header.hw == hw


def _item(item_id: str, object_ids: Sequence[str], shard: str, group: int, row: int) -> Item:
    return Item(id=item_id, object_ids=tuple(object_ids), payload={"shard": shard, "group": group, "row": row})


def _inside(uri: str, folder: str) -> str:
    address, mark, query = uri.partition("?")
    return f"{address.rstrip('/')}/{folder}{mark}{query}"


@lru_cache(maxsize=16)  # a footer takes up to a megabyte; a window opens a handful
def _file(uri: str, shard: str) -> pq.ParquetFile:
    return Storage(uri).open_parquet(shard)


@lru_cache(maxsize=2)  # a window is read group by group; the second is for loops that look back
def _group(uri: str, shard: str, group: int) -> RowGroup:
    storage = Storage(uri)
    try:
        return RowGroup(_file(uri, shard).read_row_group(group))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"row group {group} of {storage.path(shard)} cannot be read: {error}") from error
