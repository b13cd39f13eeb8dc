"""FocusCut's crop: a square around one object, the only target (docs/PAPERS.md, FocusCut: training)."""

from collections.abc import Sequence

import cv2
import numpy as np

RELAX = (0.1, 0.3)
"""Range of the margin at each side, as a fraction of the box's shorter side."""


def object_square(mask: np.ndarray, rng: np.random.Generator) -> tuple[int, int, int]:
    """Draw a square (top, left, side) for an object, bool (h, w) with a pixel; it may extend beyond the image.

    Half of the squares have the image's short side and lie at a random place that shows a random pixel of the object.
    The others surround the object's box with a margin, and have at least half the short side.
    """
    height, width = mask.shape
    short = min(height, width)
    if rng.random() < 0.5:
        pixels = np.flatnonzero(mask)
        y, x = divmod(int(pixels[rng.integers(len(pixels))]), width)
        return _start(y, short, height, rng), _start(x, short, width, rng), short
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box_h, box_w = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    relax = round(rng.uniform(*RELAX) * min(box_h, box_w))
    side = max(max(box_h, box_w) + 2 * relax, short // 2)
    top = _inside(int(rows[0] + rows[-1] + 1 - side) // 2, side, height)
    return top, _inside(int(columns[0] + columns[-1] + 1 - side) // 2, side, width), side


def _start(pixel: int, side: int, length: int, rng: np.random.Generator) -> int:
    """Draw the start of a side that shows `pixel` and lies inside the image."""
    return int(rng.integers(max(0, pixel - side + 1), min(pixel, length - side) + 1))


def _inside(start: int, side: int, length: int) -> int:
    """Move a side into the image if it fits; else centre it."""
    return min(max(start, 0), length - side) if side <= length else (length - side) // 2


def square_crop(
    arrays: Sequence[np.ndarray], square: tuple[int, int, int], crop_hw: tuple[int, int]
) -> list[np.ndarray]:
    """Cut a square out of an image (first, bilinear) and masks (nearest) and resize it; beyond the image is black."""
    top, left, side = square
    out: list[np.ndarray] = []
    for number, array in enumerate(arrays):
        height, width = array.shape[:2]
        cut = np.zeros((side, side, *array.shape[2:]), array.dtype)
        shown = array[max(0, top) : min(height, top + side), max(0, left) : min(width, left + side)]
        y, x = max(0, -top), max(0, -left)
        cut[y : y + shown.shape[0], x : x + shown.shape[1]] = shown
        how = cv2.INTER_NEAREST if number else cv2.INTER_LINEAR
        out.append(cv2.resize(cut, crop_hw[::-1], interpolation=how))
    return out
