"""Who comes when: an epoch is a fresh permutation of the items, cut into windows. Nothing else decides order.

A sample's index counts from the start of training: epoch * num_items + its place in that epoch's permutation. All
that is random about a sample follows from (seed, epoch, index), so a window can be made by any worker at any time.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache

import numpy as np

from models.errors import InputError


class Purpose(IntEnum):
    """What a generator is for; the last part of its key, so that no two steps of one sample share their draws."""

    PERMUTATION = 0
    REPLACE = 1
    AUGMENT = 2
    COPY_PASTE = 3
    PARTNER = 4
    OBJECT = 5
    CLICKS = 6
    FOCUS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A piece of an epoch that is made as one: its items are decoded once and are each other's partners.

    `number` counts windows from the start of training, `first_index` is the index of its first sample, and
    `item_numbers` says which item each of its samples shows.
    """

    epoch: int
    number: int
    first_index: int
    item_numbers: tuple[int, ...]


def rng_for(seed: int, *key: int) -> np.random.Generator:
    """Make the generator that belongs to `key`; equal arguments give equal draws, all others are independent.

    All numbers must be >= 0.
    """
    # The key goes in as spawn_key: numpy pads short entropy lists with zeros, so that [7] and [7, 0] would collide.
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@lru_cache(maxsize=4)
def _permutation(num_items: int, seed: int, epoch: int) -> np.ndarray:
    return rng_for(seed, epoch, Purpose.PERMUTATION).permutation(num_items)


def windows_per_epoch(num_items: int, window_size: int) -> int:
    """Count the windows of an epoch; a last short piece joins its neighbour, so that every window is full or more."""
    return max(1, num_items // window_size)


def window_at(number: int, num_items: int, window_size: int, seed: int) -> Window:
    """Build window `number` >= 0, counted from the start of training; raises InputError if there are no items."""
    if num_items < 1:
        raise InputError("there is nothing to train on: the data set lists 0 items, expected at least 1")
    per_epoch = windows_per_epoch(num_items, window_size)
    epoch, place = divmod(number, per_epoch)
    start = place * window_size
    stop = num_items if place == per_epoch - 1 else start + window_size
    return Window(
        epoch=epoch,
        number=number,
        first_index=epoch * num_items + start,
        item_numbers=tuple(_permutation(num_items, seed, epoch)[start:stop].tolist()),
    )


def window_number(index: int, num_items: int, window_size: int) -> int:
    """Find the window that holds the sample `index`."""
    epoch, place = divmod(index, num_items)
    per_epoch = windows_per_epoch(num_items, window_size)
    return epoch * per_epoch + min(place // window_size, per_epoch - 1)


def windows(num_items: int, window_size: int, seed: int, start_index: int = 0) -> Iterator[Window]:
    """List windows without end, from the whole window that holds the sample `start_index` on."""
    first = window_number(start_index, num_items, window_size) if num_items else 0
    for number in itertools.count(first):
        yield window_at(number, num_items, window_size, seed)
