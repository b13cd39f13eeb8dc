"""Label Studio's run-length encoding of a brush (not COCO's): a stream of bits, most significant first.

A header has the number of values (32 bits), the bits per value minus one (5) and four lengths minus one (4 each).
Blocks follow: one bit (1: a repeated value; 0: separate values), two bits that choose one of the four lengths, a count
minus one in that many bits, and then the value or the values. The values are those of an RGBA picture, row by row, 0 or
255. NumPy only.
"""

import numpy as np

from models.errors import InputError

CHANNELS = 4
VALUE_BITS = 8
LENGTHS = np.array([3, 4, 8, 16])
LONGEST = 1 << 16
MAX_VALUES = 1 << 31  # the header allows twice as many, far more than an image has


def encode(mask: np.ndarray) -> list[int]:
    """Encode a bool mask (h, w) as bytes for Label Studio."""
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise InputError(f"the mask to encode is {mask.dtype} {mask.shape}: expected a bool array (height, width)")
    num = CHANNELS * mask.size
    if num >= MAX_VALUES:
        raise InputError(f"the mask has {mask.size} pixels: a brush holds fewer than {MAX_VALUES // CHANNELS}")
    counts, values = _blocks(mask.ravel())
    kind = np.searchsorted(1 << LENGTHS, counts)
    # Each block is one number of up to 27 bits: 1, the kind, the count minus one, and the value.
    words = (((4 | kind) << LENGTHS[kind]) | (counts - 1)) << VALUE_BITS | values
    bits = np.concatenate([_bits(*_head(num)), _bits(words, 3 + LENGTHS[kind] + VALUE_BITS)])
    return np.packbits(bits).tolist()


def decode(data: list[int], hw: tuple[int, int]) -> np.ndarray:
    """Decode to a bool mask of size `hw`, true where the last of the four channels is not 0; raises InputError.

    It also raises if the number of values does not match `hw`, so nothing larger is ever allocated.
    """
    try:
        bits = np.unpackbits(np.array(data, np.uint8))
    except (ValueError, TypeError, OverflowError):
        raise InputError("the brush is not a list of bytes: expected integers from 0 to 255") from None
    stream = _Stream(bits)
    num, size = stream.number(32), stream.number(5) + 1
    lengths = [stream.number(4) + 1 for _ in range(4)]
    expected = CHANNELS * hw[0] * hw[1]
    if num != expected:
        raise InputError(f"the brush has {num} values: expected {CHANNELS} for each of the {hw[0]} x {hw[1]} pixels")
    values = np.zeros(num, bool)
    start = 0
    while start < num:
        repeated = stream.number(1)
        count = stream.number(lengths[stream.number(2)]) + 1
        if start + count > num:
            raise InputError(f"the brush has more than the {num} values that it declares")
        values[start : start + count] = stream.number(size) if repeated else stream.numbers(count, size)
        start += count
    return values.reshape(*hw, CHANNELS)[..., -1].copy()


def _head(num: int) -> tuple[np.ndarray, np.ndarray]:
    return np.array([num, VALUE_BITS - 1, *(LENGTHS - 1)]), np.array([32, 5, 4, 4, 4, 4])


def _blocks(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return counts (1 to LONGEST) and values (0 or 255) of the runs of all channels; long runs are split."""
    if not pixels.size:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    edges = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    starts = np.concatenate([[0], edges])
    runs = CHANNELS * np.diff(np.append(starts, pixels.size))
    pieces = -(-runs // LONGEST)
    counts = np.full(pieces.sum(), LONGEST, np.int64)
    counts[np.cumsum(pieces) - 1] = runs - (pieces - 1) * LONGEST
    return counts, np.repeat(np.where(pixels[starts], 255, 0), pieces)


def _bits(words: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Write each number in its number of bits, most significant first."""
    ends = np.cumsum(lengths)
    shift = np.repeat(ends, lengths) - 1 - np.arange(lengths.sum())
    return ((np.repeat(words, lengths) >> shift) & 1).astype(np.uint8)


class _Stream:
    """Reads numbers from bits; raises InputError at the end."""

    def __init__(self, bits: np.ndarray) -> None:
        self._bits, self._at = bits, 0

    def number(self, size: int) -> int:
        return int(self.numbers(1, size)[0])

    def numbers(self, count: int, size: int) -> np.ndarray:
        end = self._at + count * size
        if end > len(self._bits):
            raise InputError("the brush ends within a block")
        rows = self._bits[self._at : end].reshape(count, size).astype(np.int64)
        self._at = end
        return rows @ (1 << np.arange(size - 1, -1, -1))
