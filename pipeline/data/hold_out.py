"""Hold a fraction of a data set's images out of training, chosen by their ids alone.

The same images are held out in every run, and an image does not change sides when others are added.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np

from models.errors import InputError
from pipeline.data.sample import Item, Reader, Sample


@dataclass(frozen=True, kw_only=True)
class HoldOut:
    """One side of a split of `reader`: about `fraction` of its images ("held_out"), or the others ("training")."""

    reader: Reader
    fraction: float
    side: Literal["training", "held_out"]

    def __post_init__(self) -> None:
        if not 0 < self.fraction < 1:
            raise InputError(f"hold_out is {self.fraction}: expected a fraction between 0 and 1, such as 0.1")

    def items(self) -> Sequence[Item]:
        """List the images of this side; raises InputError if there are none."""
        return self.of(self.reader.items())

    def of(self, items: Sequence[Item]) -> Sequence[Item]:
        """Select this side from the reader's whole list; raises InputError if it is empty."""
        held = np.array([is_held_out(item.id, self.fraction) for item in items], bool)
        chosen = np.flatnonzero(held == (self.side == "held_out"))
        if not len(chosen):
            raise InputError(
                f"holding out {self.fraction} of {len(held)} images leaves none "
                f"{'to validate on' if self.side == 'held_out' else 'to train on'}: use another hold_out "
                "(--validation.hold-out of jobs.train), or more images"
            )
        return _Chosen(items, chosen)

    def load(self, item: Item) -> Sample:
        """Open one image."""
        return self.reader.load(item)


def is_held_out(item_id: str, fraction: float) -> bool:
    """Whether an image belongs to the held-out `fraction`; a larger fraction contains every smaller one."""
    number = int.from_bytes(hashlib.sha256(item_id.encode()).digest()[:8])
    return number < fraction * 2**64


class _Chosen(Sequence[Item]):
    """Some items of a list, in its order, with the chunks of the list reduced to these items."""

    def __init__(self, items: Sequence[Item], numbers: np.ndarray) -> None:
        self.all, self.numbers = items, numbers
        sizes = getattr(items, "chunk_sizes", None)
        if sizes is not None:
            chunk_of = np.repeat(np.arange(len(sizes)), sizes)[numbers]
            self.chunk_sizes = np.unique(chunk_of, return_counts=True)[1]

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        if isinstance(index, slice):
            return [self.all[int(number)] for number in self.numbers[index]]
        return self.all[int(self.numbers[index])]
