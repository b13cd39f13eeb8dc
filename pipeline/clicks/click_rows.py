"""The arrays of a training sample's clicks, the same for every method that draws them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RANDOM_ORDER = 100  # RITM's value for "no order": later clicks, added one by one, count from 1


@dataclass(frozen=True, slots=True, eq=False)
class TrainingClicks:
    """Clicks of both signs in arrays of fixed size: positive in rows 0..K-1, negative in rows K..2K-1.

    `yx` float32 (2K, 2), `valid` bool (2K,), `order` int16 (2K,). Each half is filled from its start; unused rows hold
    yx = -1 and order = -1.
    """

    yx: np.ndarray
    valid: np.ndarray
    order: np.ndarray


def click_rows(
    positive: Sequence[int],
    negative: Sequence[int],
    order: Sequence[int] | np.ndarray | int,
    hw: tuple[int, ...],
    capacity: int,
) -> TrainingClicks:
    """Put clicks, given as row-major pixel numbers, into rows; at most `capacity` (K) of each sign.

    `order` is a number for each click, positive ones first, or one number for all.
    """
    yx = np.full((2 * capacity, 2), -1, np.float32)
    valid = np.zeros(2 * capacity, bool)
    for half, pixels in enumerate((positive, negative)):
        assert len(pixels) <= capacity, f"{len(pixels)} clicks of a sign for {capacity} rows"
        rows = slice(half * capacity, half * capacity + len(pixels))
        yx[rows] = np.stack(np.divmod(np.array(pixels, np.int64), hw[1]), axis=1)
        valid[rows] = True
    numbers = np.full(2 * capacity, -1, np.int16)
    numbers[valid] = order
    return TrainingClicks(yx, valid, numbers)
