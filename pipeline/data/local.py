"""The training stream in this process, without Ray: for laptops, for tests, and as the reference for the Ray stream."""

from collections.abc import Iterator, Sequence

from pipeline.data.config import DataConfig
from pipeline.data.rows import Row
from pipeline.data.sample import Item, Reader
from pipeline.data.sampling import Order
from pipeline.data.targets import settled
from pipeline.data.windows import make_window


def stream(
    reader: Reader, config: DataConfig, start_index: int = 0, *, items: Sequence[Item] | None = None
) -> Iterator[Row]:
    """Yield rows endlessly, from the sample `start_index` on, one window at a time.

    Pass `items` to avoid listing the data set again. Raises InputError at the first row of a window without usable
    items.
    """
    items = reader.items() if items is None else items
    config = settled(config, reader, items)
    for window in Order.of(items, config.window_size, config.seed).windows(start_index):
        for row in make_window(items, reader, config, window):
            if row["index"] >= start_index:
                yield row
