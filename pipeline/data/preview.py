"""Choose samples for a preview: some of each copy-paste mode, as the training stream makes them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import SEVERAL, modes_of
from pipeline.data.rows import Row
from pipeline.data.sample import Item, Reader
from pipeline.data.sampling import Order
from pipeline.data.targets import settled
from pipeline.data.windows import make_window

MAX_WINDOWS = 8


@dataclass
class Examples:
    """Samples by mode: "none", the single modes, and "several" for combined modes (three_gates only).

    If a mode rarely occurs alone, samples that combine it with others follow.
    """

    wanted: int
    by_mode: dict[str, list[Row]]
    num_rows: int = 0
    """Samples made to find these."""
    num_empty: int = 0
    """How many of the samples made show no object."""
    num_windows: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    """How many of the samples made have each mode, alone or combined."""

    def caption(self, mode: str) -> str:
        """Return how often a mode occurred, and whether that was too rarely."""
        text = f"{self.counts.get(mode, 0)} of {self.num_rows} samples"
        found = len(self.by_mode[mode])
        if found < self.wanted:
            windows = f"{self.num_windows} window{'s' if self.num_windows > 1 else ''}"
            text += f": {found or 'none'} found in {windows}, {self.wanted} wanted"
        return text


def find_examples(
    reader: Reader,
    items: Sequence[Item],
    config: DataConfig,
    *,
    epoch: int = 0,
    wanted: int = 6,
    max_windows: int = MAX_WINDOWS,
    progress: Callable[[int, int], None] = lambda done, most: None,
) -> Examples:
    """Make windows, from the epoch's first on, until each mode has `wanted` samples or `max_windows` are made.

    Raises InputError if no item of a window can be used.
    """
    config = settled(config, reader, items)
    order = Order.of(items, config.window_size, config.seed)
    start = epoch * order.windows_per_epoch
    expected = modes_of(config.copy_paste)
    alone: dict[str, list[Row]] = {mode: [] for mode in expected}
    among: dict[str, list[Row]] = {mode: [] for mode in expected}
    examples = Examples(wanted=wanted, by_mode=alone)
    for number in range(start, start + max_windows):
        for row in make_window(items, reader, config, order.window(number)):
            modes = row["mode"].split("+") if row["mode"] else ["none"]
            group = modes[0] if len(modes) == 1 else SEVERAL
            _keep(alone, group, row, wanted)
            for mode in modes if group == SEVERAL else ():
                _keep(among, mode, row, wanted)
            for mode in {*modes, group}:
                examples.counts[mode] = examples.counts.get(mode, 0) + 1
            examples.num_rows += 1
            examples.num_empty += not row["object_mask"].any()
        examples.num_windows += 1
        progress(examples.num_windows, max_windows)
        if all(len(alone[mode]) == wanted for mode in expected):
            break
    for mode, rows in alone.items():
        rows += among.get(mode, [])[: wanted - len(rows)]
    return examples


def _keep(groups: dict[str, list[Row]], group: str, row: Row, wanted: int) -> None:
    rows = groups.setdefault(group, [])
    if len(rows) < wanted:
        rows.append(row)
