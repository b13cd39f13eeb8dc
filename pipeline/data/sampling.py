"""The order of samples: an epoch is a new permutation of the items, cut into windows. Nothing else decides the order.

A sample's index counts from the start of training: epoch * num_items + its place in that epoch's permutation. All that
is random about a sample follows from (seed, epoch, index), so any worker can make a window at any time.

The shuffle has two levels if the storage has chunks (row groups of a shard, which are read as a whole): chunks are
permuted, a window takes some whole chunks, and its items are permuted. So a window reads long runs of bytes, each chunk
is read once per epoch, and any two items may meet in some epoch. If items are files, a chunk is one item.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

import numpy as np

from models.errors import InputError


class Purpose(IntEnum):
    """What a generator is for: a part of its key, so that no two steps of a sample share their random numbers."""

    PERMUTATION = 0
    REPLACE = 1
    AUGMENT = 2
    COPY_PASTE = 3
    PARTNER = 4
    OBJECT = 5
    CLICKS = 6
    WINDOW = 7
    FOCUS = 8
    EXEMPLAR = 9
    FLOOR = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A piece of an epoch that is made together: its items are decoded once and are each other's partners.

    `number` counts windows from the start of training, `first_index` is the index of its first sample, and
    `item_numbers` gives the item that each sample shows.
    """

    epoch: int
    number: int
    first_index: int
    item_numbers: tuple[int, ...]


def rng_for(seed: int, *key: int) -> np.random.Generator:
    """Return the generator that belongs to `key`; equal arguments give equal draws, all others are independent.

    All numbers must be >= 0.
    """
    # The key is the spawn_key: numpy pads short entropy lists with zeros, so that [7] and [7, 0] would collide.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


class Order:
    """The order of a data set's items, epoch after epoch, cut into windows.

    A window has the number of chunks that comes nearest to `window_size` items. The short last piece of an epoch joins
    the window before it, so no window has fewer chunks than that.
    """

    def __init__(self, chunk_sizes: Sequence[int] | np.ndarray, window_size: int, seed: int) -> None:
        self.chunk_sizes: np.ndarray = np.asarray(chunk_sizes, np.int64)
        self.num_items = int(self.chunk_sizes.sum())
        if self.num_items < 1:
            raise InputError("there is nothing to train on: the data set lists 0 items, expected at least 1")
        if self.chunk_sizes.min() < 1:
            raise InputError("the data set has an empty chunk: expected at least one item in each")
        self.seed = seed
        num_chunks = len(self.chunk_sizes)
        self.chunks_per_window = max(1, min(num_chunks, round(window_size * num_chunks / self.num_items)))
        self.windows_per_epoch = max(1, num_chunks // self.chunks_per_window)
        self._starts = np.concatenate([[0], np.cumsum(self.chunk_sizes)])
        # A cache per order, so that it does not outlive it: a permutation of a million items takes 8 MB.
        self._epoch = lru_cache(maxsize=2)(self._permute)

    @classmethod
    def of(cls, items: Sequence[Any], window_size: int, seed: int) -> "Order":
        """Return the order of a reader's items; a list whose items lie in chunks has `chunk_sizes`.

        Raises InputError if there are no items.
        """
        sizes = getattr(items, "chunk_sizes", None)
        return cls(np.ones(len(items), np.int64) if sizes is None else sizes, window_size, seed)

    def _permute(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the order of an epoch's chunks, and the number of items before each of its windows and in all."""
        chunks = rng_for(self.seed, epoch, Purpose.PERMUTATION).permutation(len(self.chunk_sizes))
        before = np.concatenate([[0], np.cumsum(self.chunk_sizes[chunks])])
        borders = self.chunks_per_window * np.arange(self.windows_per_epoch)
        return chunks, np.append(before[borders], self.num_items)

    def window(self, number: int) -> Window:
        """Return window `number` >= 0, counted from the start of training."""
        epoch, place = divmod(number, self.windows_per_epoch)
        chunks, borders = self._epoch(epoch)
        start = place * self.chunks_per_window
        last = place == self.windows_per_epoch - 1
        chosen = chunks[start:] if last else chunks[start : start + self.chunks_per_window]
        items = np.concatenate([np.arange(int(self._starts[chunk]), int(self._starts[chunk + 1])) for chunk in chosen])
        if len(items) > len(chosen):
            items = rng_for(self.seed, epoch, Purpose.WINDOW, place).permutation(items)
        return Window(
            epoch=epoch,
            number=number,
            first_index=epoch * self.num_items + int(borders[place]),
            item_numbers=tuple(items.tolist()),
        )

    def window_number(self, index: int) -> int:
        """Return the number of the window that holds the sample `index`."""
        epoch, place = divmod(index, self.num_items)
        borders = self._epoch(epoch)[1]
        return epoch * self.windows_per_epoch + int(np.searchsorted(borders, place, side="right")) - 1

    def windows(self, start_index: int = 0) -> Iterator[Window]:
        """Yield windows endlessly, from the whole window that holds the sample `start_index` on."""
        for number in itertools.count(self.window_number(start_index)):
            yield self.window(number)
