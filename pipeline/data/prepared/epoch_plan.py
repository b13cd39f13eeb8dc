"""An epoch of the training stream in parts of whole windows: the work of each part, and how its rows are made.

The stored work lists the items of every window, so that a worker needs no list of the data set, and an interrupted run
resumes without listing it again.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from models.storage import Storage
from pipeline.data.config import DataConfig
from pipeline.data.prepared.epoch import EPOCH_SCHEMA, to_row
from pipeline.data.prepared.parts import Made
from pipeline.data.prepared.plan import PLANNED, pack_item, read_plan, unpack_item, write_plan
from pipeline.data.rows import Row
from pipeline.data.sample import Item, Origin, Reader, Sample, stream_items
from pipeline.data.sampling import Order, Window
from pipeline.data.windows import make_window


def list_items(reader: Reader, progress: Callable[[int], None] = lambda num_items: None) -> Sequence[Item]:
    """List a data set; `progress` gets the number of items so far if the reader lists them one by one."""
    if not hasattr(reader, "stream"):
        return reader.items()
    items = list[Item]()
    for item in stream_items(reader):
        items.append(item)
        progress(len(items))
    return items


def plan_epoch(
    reader: Reader,
    storage: Storage,
    config: DataConfig,
    epoch: int,
    windows_per_part: int,
    progress: Callable[[int], None] = lambda num_items: None,
) -> int:
    """Write the work of each part into the storage and return the number of parts; work that is stored already is kept.

    Holds the list of items in memory, as training does. Raises InputError if there are none.
    """
    if storage.exists(PLANNED):
        return int(storage.read_json(PLANNED)["num_parts"])
    items = list_items(reader, progress)
    order = Order.of(items, config.window_size, config.seed)
    # The items of a prepared data set lie in row groups, which are read as a whole: the worker lists them.
    in_chunks = hasattr(items, "chunk_sizes")
    num_windows = order.windows_per_epoch
    num_parts = -(-num_windows // windows_per_part)
    for part in range(num_parts):
        tasks = []
        for place in range(part * windows_per_part, min((part + 1) * windows_per_part, num_windows)):
            window = order.window(epoch * num_windows + place)
            named = window.item_numbers if in_chunks else [pack_item(items[number]) for number in window.item_numbers]
            tasks.append([window.number, window.first_index, named])
        write_plan(storage, part, {"in_chunks": in_chunks, "windows": tasks})
    storage.write_json(PLANNED, {"num_parts": num_parts, "num_items": len(items)})
    return num_parts


@dataclass(frozen=True, kw_only=True)
class EpochRows:
    """Makes the rows of an epoch's parts exactly as the training stream makes them."""

    reader: Reader
    storage: Storage
    config: DataConfig
    epoch: int = 0
    image_format: str = "png"

    @property
    def schema(self) -> pa.Schema:
        """Columns of a prepared data set and of a training row."""
        return EPOCH_SCHEMA

    def rows(self, part: int) -> Iterator[Made]:
        """Yield the rows of a part in the order of their indices, and the refusals of their items."""
        for items, window in self._windows(read_plan(self.storage, part)):
            noting = _Noting(self.reader)
            for row in make_window(items, noting, self.config, window):
                yield from noting.refusals(row["refused"])
                stored = to_row(row, self.image_format, noting.origin(row))
                yield stored
                yield Counter(_kinds(stored))

    def _windows(self, plan: dict[str, Any]) -> Iterator[tuple[Sequence[Item], Window]]:
        """Yield windows, each with the list that its numbers refer to: the reader's, or one of the window's items."""
        for number, first_index, named in plan["windows"]:
            if plan["in_chunks"]:
                items, numbers = self.reader.items(), tuple(named)
            else:
                items, numbers = [unpack_item(packed) for packed in named], tuple(range(len(named)))
            yield items, Window(epoch=self.epoch, number=number, first_index=first_index, item_numbers=numbers)


def _kinds(row: dict[str, Any]) -> Iterator[str]:
    """Yield what a row counts as: its mode, whether it has no object, and whether part of its item was refused."""
    yield f"mode {row['mode'] or 'none'}"
    if not row["objects"]:
        yield "without object"
    if row["refused"]:
        yield "with refusals"


@dataclass
class _Noting:
    """A reader that records the origin and the refusals of what it reads, which rows do not carry."""

    reader: Reader
    origins: dict[str, Origin] = field(default_factory=dict)
    refused: list[tuple[str, ...]] = field(default_factory=list)

    def items(self) -> Sequence[Item]:
        return self.reader.items()

    def load(self, item: Item) -> Sample:
        sample = self.reader.load(item)
        self.origins[sample.id] = sample.origin
        if sample.refused:
            self.refused.append(sample.refused)
        return sample

    def origin(self, row: Row) -> Origin:
        """Return the origin of a row's pixels, from its item and its partners, with each licence and source once."""
        ids = [row["item"], *(row["partner"].split("; ") if row["partner"] else [])]
        origins = [self.origins.get(item_id, Origin()) for item_id in ids]
        return Origin(licence=_joined(o.licence for o in origins), source=_joined(o.source for o in origins))

    def refusals(self, text: str) -> list[str]:
        """Split a row's `refused` into single refusals."""
        for refused in self.refused:
            joined = "; ".join(refused)
            if text == joined or text.startswith(f"{joined}; "):
                rest = text[len(joined) + 2 :]
                return [*refused, rest] if rest else list(refused)
        return [text] if text else []


def _joined(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(text for text in texts if text))
