"""Progress of training through its sample stream, counted by sample and independent of which worker used which."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.data.rows import Batch


@dataclass(frozen=True)
class StreamPosition:
    """The samples used so far: all indices less than `below`, and those in `beyond` (some workers may be ahead)."""

    below: int = 0
    beyond: frozenset[int] = field(default_factory=frozenset)

    def add(self, indices: Iterable[int]) -> "StreamPosition":
        """Return the position after these samples were used as well."""
        seen = set(self.beyond) | {int(index) for index in indices if index >= self.below}
        below = self.below
        while below in seen:
            seen.remove(below)
            below += 1
        return StreamPosition(below, frozenset(seen))

    def unused(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return which samples were not used yet: bool, one per index."""
        return np.array([index >= self.below and int(index) not in self.beyond for index in indices], bool)

    def to_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"below": self.below, "beyond": sorted(self.beyond)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "StreamPosition":
        """Undo `to_json`."""
        return cls(int(values["below"]), frozenset(values["beyond"]))


def rebatch(blocks: Iterable[Batch], start: StreamPosition, batch_size: int) -> Iterable[Batch]:
    """Cut blocks of rows into batches of `batch_size`, skipping the samples that `start` counts as used.

    A short last batch is dropped, because all workers must take the same number of steps.
    """
    waiting: list[Batch] = []
    num_waiting = 0
    for block in blocks:
        keep = start.unused(block["index"])
        if not keep.all():
            block = {name: column[keep] for name, column in block.items()}
        if len(block["index"]) == 0:
            continue
        waiting.append(block)
        num_waiting += len(block["index"])
        while num_waiting >= batch_size:
            merged = {name: np.concatenate([part[name] for part in waiting]) for name in waiting[0]}
            yield {name: column[:batch_size] for name, column in merged.items()}
            waiting = [{name: column[batch_size:] for name, column in merged.items()}]
            num_waiting -= batch_size
