"""Pixels within given distances of a mask, and random draws among them that keep apart, as in DIOS and FocusCut.

Pixels are row-major numbers, int64. Distances between clicks are exact. Distances to a mask are OpenCV's with the 5x5
kernel, as in RITM's training clicks: within 2 % of the Euclidean ones, in a quarter of the time.
"""

from collections.abc import Sequence

import cv2
import numpy as np

TRIES = 16
"""Draws by trial before the pixels that are far enough are listed; affects only the time, not the result."""


def bounds(mask: np.ndarray, margin: int) -> tuple[slice, slice]:
    """Return the rows and columns of a box `margin` larger than a bool mask that is not empty, clipped to the image."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (
        slice(max(0, int(rows[0]) - margin), int(rows[-1]) + margin + 1),
        slice(max(0, int(columns[0]) - margin), int(columns[-1]) + margin + 1),
    )


def _numbers(part: np.ndarray, box: tuple[slice, slice], width: int) -> np.ndarray:
    """Return the row-major numbers, in the whole image, of the pixels that are set in a box of it."""
    rows, columns = np.divmod(np.flatnonzero(part), part.shape[1])
    return (rows + box[0].start) * width + columns + box[1].start


def pixels_inside(mask: np.ndarray, margin: float) -> np.ndarray:
    """Return the pixels of a bool mask (h, w) at least `margin` from the nearest pixel outside.

    Beyond the image's edge is outside.
    """
    if not mask.any():
        return np.zeros(0, np.int64)
    box = bounds(mask, 0)
    padded = cv2.copyMakeBorder(mask[box].astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    distances = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_5)[1:-1, 1:-1]
    return _numbers(mask[box] & (distances >= margin), box, mask.shape[1])


def pixels_around(mask: np.ndarray, margin: float, reach: float) -> np.ndarray:
    """Return the pixels outside a bool mask (h, w), `margin` to `reach` from its nearest pixel; all if it is empty."""
    if not mask.any():
        return np.arange(mask.size)
    box = bounds(mask, int(reach) + 1)
    distances = cv2.distanceTransform((~mask[box]).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    near = (distances >= max(margin, 0.5)) & (distances <= reach)
    return _numbers(near, box, mask.shape[1])


def squared_gaps(pixels: np.ndarray, pixel: int, width: int) -> np.ndarray:
    """Return the squared distances of pixels to one pixel."""
    rows, columns = np.divmod(pixels, width)
    y, x = divmod(pixel, width)
    return (rows - y) ** 2 + (columns - x) ** 2


def draw_spaced(
    pixels: np.ndarray,
    num: int,
    spacing: float,
    width: int,
    rng: np.random.Generator,
    taken: Sequence[int] = (),
) -> list[int]:
    """Draw `num` pixels in turn, each uniformly among those at least `spacing` > 0 from all before it and from `taken`.

    Returns fewer if none is left. `width` is the image's.
    """
    done, drawn = list(taken), []
    while len(drawn) < num and len(pixels):
        pixel = _by_trial(pixels, done, spacing, width, rng)
        if pixel is None:
            for other in done:
                pixels = pixels[squared_gaps(pixels, other, width) >= spacing**2]
            continue
        done.append(pixel)
        drawn.append(pixel)
    return drawn


def _by_trial(
    pixels: np.ndarray, done: Sequence[int], spacing: float, width: int, rng: np.random.Generator
) -> int | None:
    """Draw pixels until one is far enough from `done`; its distribution is that of a draw among all such pixels."""
    for pixel in pixels[rng.integers(len(pixels), size=TRIES)].tolist():
        y, x = divmod(pixel, width)
        if all((y - other // width) ** 2 + (x - other % width) ** 2 >= spacing**2 for other in done):
            return pixel
    return None
