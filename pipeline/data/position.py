"""How far training has come in its stream, sample by sample, whichever worker saw which."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.data.rows import Batch


@dataclass(frozen=True)
class StreamPosition:
    """The samples that were used: all indices below `below`, and those in `beyond` (other workers may be ahead)."""

    below: int = 0
    beyond: frozenset[int] = field(default_factory=frozenset)

    def add(self, indices: Iterable[int]) -> "StreamPosition":
        """Return the position after these samples as well."""
        seen = set(self.beyond) | {int(index) for index in indices if index >= self.below}
        below = self.below
        while below in seen:
            seen.remove(below)
            below += 1
        return StreamPosition(below, frozenset(seen))

    def unused(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Tell which samples were not used yet: bool, one per index."""
        return np.array([index >= self.below and int(index) not in self.beyond for index in indices], bool)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"below": self.below, "beyond": sorted(self.beyond)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "StreamPosition":
        """Undo `to_json`."""
        return cls(int(values["below"]), frozenset(values["beyond"]))


def rebatch(blocks: Iterable[Batch], start: StreamPosition, batch_size: int) -> Iterable[Batch]:
    """Cut blocks of rows into batches of `batch_size`, without the samples that `start` says were used.

    A last short batch is dropped: workers must make equal numbers of steps.
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
