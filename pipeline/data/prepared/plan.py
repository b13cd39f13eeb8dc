"""The work of a preparation: the reader's items, listed once and cut into parts that workers read one by one.

The list is stored because it may be larger than memory (ten million annotations are gigabytes) and because listing may
take longer than the rest of an interrupted run.
"""

import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa

from models.errors import InputError
from models.storage import Storage
from pipeline.data.loading import load_or_refuse
from pipeline.data.prepared.parts import Made
from pipeline.data.prepared.schema import SCHEMA, to_row
from pipeline.data.prepared.stages import AsRead, Stage
from pipeline.data.sample import Item, Reader, stream_items

PLANNED = "plan/plan.json"
"""Written when all parts are stored."""


def make_plan(
    reader: Reader, storage: Storage, items_per_part: int, progress: Callable[[int], None] = lambda num_items: None
) -> int:
    """List the reader's items into the storage and return the number of parts; a list that is stored already is kept.

    Holds one part in memory. `progress` is called with the number of items listed so far.
    """
    if storage.exists(PLANNED):
        return int(storage.read_json(PLANNED)["num_parts"])
    stream = iter(stream_items(reader))
    num_parts = num_items = 0
    while part := list(islice(stream, items_per_part)):
        write_plan(storage, num_parts, [pack_item(item) for item in part])
        num_parts += 1
        num_items += len(part)
        progress(num_items)
    if not num_parts:
        raise InputError("the data set lists no images: there is nothing to prepare")
    storage.write_json(PLANNED, {"num_parts": num_parts, "num_items": num_items})
    return num_parts


def read_part(storage: Storage, part: int) -> list[Item]:
    """Read the items of one part."""
    return [unpack_item(packed) for packed in read_plan(storage, part)]


def write_plan(storage: Storage, part: int, value: Any) -> None:
    """Write the work of a part, a value for JSON."""
    storage.write(_part(part), gzip.compress(json.dumps(value).encode(), compresslevel=1))


def read_plan(storage: Storage, part: int) -> Any:
    """Read the work of a part."""
    return json.loads(gzip.decompress(storage.read(_part(part))))


def pack_item(item: Item) -> list[Any]:
    """Convert an item to values for JSON."""
    return [item.id, item.object_ids, item.payload]


def unpack_item(packed: list[Any]) -> Item:
    """Undo `pack_item`."""
    item_id, object_ids, payload = packed
    return Item(id=item_id, object_ids=tuple(object_ids), payload=payload)


def _part(number: int) -> str:
    return f"plan/part-{number:06d}.json.gz"


@dataclass(frozen=True, kw_only=True)
class PlannedRows:
    """Makes the rows of the stored parts: reads each item, passes it through the stage and converts the result."""

    reader: Reader
    storage: Storage
    stage: Stage = field(default_factory=AsRead)

    @property
    def schema(self) -> pa.Schema:
        """Columns of a prepared data set."""
        return SCHEMA

    def rows(self, part: int) -> Iterator[Made]:
        """Yield the rows of a part, and the refusals of its items."""
        for item in read_part(self.storage, part):
            sample, refused = load_or_refuse(self.reader, item)
            yield from refused
            if sample is None:
                continue
            try:
                stored, counts = self.stage(sample)
                yield from (to_row(one) for one in stored)
                yield Counter(counts)
            except OSError as error:  # its file is gone since it was read
                yield f"{item.id}: {error}"
