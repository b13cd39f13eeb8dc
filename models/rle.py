"""COCO run-length encoding of one mask: runs down the columns, of which the first counts zeros.

The compressed text stores each run, from the fourth on as its difference from the run two before, in signed groups of
five bits, one character per group (bit 5: more groups follow; plus 48). Needs only NumPy. Hostile text is refused
before anything of the mask's size is allocated, unlike in the C library behind pycocotools.
"""

import json
from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np

from models.errors import InputError

TILE = 64  # columns to transpose at once: takes half the time of transposing all at once
MAX_GROUPS = 7  # 35 bits hold every difference of two runs in an image below 2**34 pixels


class Rle(TypedDict):
    """An encoded mask: `size` is [height, width], `counts` the compressed text."""

    size: list[int]
    counts: str


def encode(mask: np.ndarray) -> Rle:
    """Encode a bool mask (h, w)."""
    if mask.dtype != np.bool_ or mask.ndim != 2:
        raise InputError(f"the mask to encode is {mask.dtype} {mask.shape}: expected a bool array (height, width)")
    return of_runs(runs_of(mask), (mask.shape[0], mask.shape[1]))


def of_runs(runs: np.ndarray, hw: tuple[int, int]) -> Rle:
    """Encode a mask of size (h, w) from its runs."""
    return {"size": [int(hw[0]), int(hw[1])], "counts": pack_counts(runs)}


def decode(rle: Mapping[str, Any], hw: tuple[int, int] | None = None, max_pixels: int = 1 << 28) -> np.ndarray:
    """Decode to a bool mask (h, w); `counts` may be the compressed text or a plain list of runs.

    Raises InputError if the size is not `hw` (if given) or exceeds `max_pixels`, or if the runs are malformed or do not
    add up to h * w. Nothing larger than the text is allocated before these checks.
    """
    height, width = _checked_size(rle.get("size"), hw, max_pixels)
    runs = _checked_runs(rle.get("counts"), height * width)
    return mask_of(runs, (height, width))


def decode_runs(rle: Mapping[str, Any], hw: tuple[int, int], max_pixels: int = 1 << 28) -> np.ndarray:
    """Decode to the runs, int64, with the checks of `decode`."""
    height, width = _checked_size(rle.get("size"), hw, max_pixels)
    return _checked_runs(rle.get("counts"), height * width)


def area_and_box(runs: np.ndarray, height: int) -> tuple[int, list[int]]:
    """Return the area and the bounding box [x, y, width, height] (zeros if empty) of runs, without decoding them."""
    ends = np.cumsum(runs)
    keep = runs[1::2] > 0
    starts, lasts = (ends[0::2][: len(keep)])[keep], ends[1::2][keep] - 1  # first and last pixel of each run of ones
    if len(starts) == 0:
        return 0, [0, 0, 0, 0]
    left, right = int(starts[0] // height), int(lasts[-1] // height)
    # A run that continues in the next column touches the bottom of one column and the top of the next.
    spans = starts // height != lasts // height
    top = 0 if spans.any() else int((starts % height).min())
    bottom = height - 1 if spans.any() else int((lasts % height).max())
    return int(runs[1::2].sum()), [left, top, right - left + 1, bottom - top + 1]


def holds(runs: np.ndarray, height: int, y: int, x: int) -> bool:
    """Whether the pixel (y, x) belongs to the mask of these runs."""
    return bool(np.searchsorted(np.cumsum(runs), x * height + y, side="right") % 2)


def mask_of(runs: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Convert runs that add up to h * w to a bool mask (h, w)."""
    height, width = hw
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height)
    mask = np.empty((height, width), bool)
    for x in range(0, width, TILE):
        mask[:, x : x + TILE] = columns[x : x + TILE].T
    return mask


def runs_of(mask: np.ndarray) -> np.ndarray:
    """Return the run lengths, int64, of a bool mask in column-major order; the first run counts zeros (may be 0)."""
    if mask.size == 0:
        return np.zeros(0, np.int64)
    height, width = mask.shape
    # Find edges in row-major memory, then sort them by column: edges are few, and a transposition is slow.
    y, x = np.divmod(np.flatnonzero(mask[1:] != mask[:-1]), width)
    across = np.flatnonzero(mask[0, 1:] != mask[-1, :-1]) + 1
    edges = np.sort(np.concatenate([x * height + y + 1, across * height]))
    start = [0, 0] if mask[0, 0] else [0]
    return np.diff(np.concatenate([start, edges, [mask.size]])).astype(np.int64)


def pack_counts(runs: np.ndarray) -> str:
    """Compress runs (int64, not negative) into the COCO text."""
    if len(runs) == 0:
        return ""
    deltas = runs.copy()
    deltas[3:] -= runs[1:-2]
    # n groups hold a signed number of 5n bits; folding negatives onto positives makes "fits" one comparison.
    folded = np.where(deltas < 0, ~deltas, deltas)
    groups = np.ones(len(deltas), np.int64)
    for n in range(1, MAX_GROUPS):
        groups += folded >= 1 << (5 * n - 1)
    index = np.arange(MAX_GROUPS)
    digits = (deltas[:, None] >> (5 * index)) & 31
    more = index < groups[:, None] - 1
    return (digits + 32 * more + 48)[index < groups[:, None]].astype(np.uint8).tobytes().decode("ascii")


def unpack_counts(text: str) -> np.ndarray:
    """Decompress the COCO text into runs (int64); raises InputError for malformed text."""
    if not text:
        return np.zeros(0, np.int64)
    try:
        digits = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError:
        raise InputError("the RLE counts hold characters outside ASCII") from None
    if digits.min() < 0 or digits.max() > 63:
        raise InputError("the RLE counts hold a character outside '0' to 'o'")
    if digits[-1] & 32:
        raise InputError("the RLE counts end in the middle of a number")
    ends = np.flatnonzero((digits & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > MAX_GROUPS:
        raise InputError(f"the RLE counts hold a number of more than {5 * MAX_GROUPS} bits")
    shift = 5 * (np.arange(len(digits)) - np.repeat(starts, lengths))
    runs = np.add.reduceat((digits & 31) << shift, starts)
    runs -= np.where(digits[ends] & 16, 1 << (5 * lengths), 0)
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def _checked_size(size: Any, hw: tuple[int, int] | None, max_pixels: int) -> tuple[int, int]:
    if size is None:
        raise InputError('the RLE has no size: expected [height, width], two positive integers, under "size"')
    pair = list(size) if isinstance(size, list | tuple) else []
    if len(pair) != 2 or not all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in pair):
        given = json.dumps(size, default=str)[:60]
        raise InputError(f"the RLE size is {given}: expected [height, width], two positive integers")
    height, width = int(pair[0]), int(pair[1])
    if hw is not None and (height, width) != tuple(hw):
        raise InputError(f"the RLE size is [{height}, {width}]: expected the image's [{hw[0]}, {hw[1]}]")
    if height * width > max_pixels:
        raise InputError(f"the RLE size [{height}, {width}] exceeds {max_pixels} pixels")
    return height, width


def _checked_runs(counts: Any, num_pixels: int) -> np.ndarray:
    # A valid mask has at most one run per pixel and a leading zero, of at most MAX_GROUPS characters each.
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", errors="replace")
    if isinstance(counts, str):
        counts = _unquoted(counts)
        if len(counts) > MAX_GROUPS * (num_pixels + 1):
            raise InputError(f"the RLE counts hold {len(counts)} characters, too many for {num_pixels} pixels")
        runs = unpack_counts(counts)
    elif isinstance(counts, list) and all(isinstance(v, int) and not isinstance(v, bool) for v in counts):
        if any(not 0 <= v <= num_pixels for v in counts):
            raise InputError(f"a run of the RLE lies outside 0 to {num_pixels}")
        runs = np.array(counts, np.int64)
    elif isinstance(counts, list):
        odd = next(v for v in counts if not isinstance(v, int) or isinstance(v, bool))
        raise InputError(f"the RLE counts hold {json.dumps(odd, default=str)[:60]}: expected a list of integers")
    elif counts is None:
        raise InputError("the RLE counts are missing or null: expected the COCO text or a list of integers")
    else:
        raise InputError("the RLE counts are of another type: expected the COCO text or a list of integers")
    if len(runs) and (runs.min() < 0 or runs.max() > num_pixels):
        raise InputError(f"a run of the RLE lies outside 0 to {num_pixels}")
    if len(runs) > 2 * num_pixels + 2 or int(runs.sum()) != num_pixels:
        raise InputError(f"the runs of the RLE add up to {int(runs.sum())}: expected height x width = {num_pixels}")
    return runs


def _unquoted(counts: str) -> str:
    """Strip Python's b'...' from counts that a program stored as repr(bytes); COCO text has no quotes."""
    if len(counts) > 2 and counts[0] == "b" and counts[1] in "'\"" and counts[-1] == counts[1]:
        return counts[2:-1].replace("\\\\", "\\")
    return counts
