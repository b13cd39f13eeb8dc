"""Cut patches from an image, resize them for a network, and paste their answers back (FocusCut).

The arithmetic differs from the other methods: OpenCV resizes images as uint8 and binary masks to the nearest pixel,
clicks lie on whole pixels, and a patch may extend beyond the image, where it is black and background. See
docs/PAPERS.md, FocusCut: inference.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from torch import Tensor

from models.device import to_device, to_host
from models.geometry import Box
from models.interaction import Clicks
from models.refinement.state import View


class Patch(NamedTuple):
    """An answer for a box of the image: probabilities float32 of any size."""

    prob: np.ndarray
    box: Box


@dataclass(frozen=True, kw_only=True)
class Masking:
    """How probabilities become a mask, and a network's previous mask."""

    threshold: float
    """Probability above which a pixel belongs to the mask."""
    binary: bool
    """Whether the network takes the mask instead of probabilities."""

    def prev_mask(self, prob: np.ndarray, box: Box, hw: tuple[int, int]) -> np.ndarray:
        """Return the previous mask, float32 of size `hw`, for a box of the probabilities (h, w)."""
        patch = cut(prob, box)
        if self.binary:
            return resized((patch > self.threshold).astype(np.uint8), hw, nearest=True).astype(np.float32)
        return resized(patch, hw)


def cut(array: np.ndarray, box: Box) -> np.ndarray:
    """Cut a box out of an array (h, w, ...), with zeros outside the array."""
    patch = np.zeros((*box.hw, *array.shape[2:]), array.dtype)
    target, source = overlap(box, (array.shape[0], array.shape[1]))
    patch[target] = array[source]
    return patch


def overlap(box: Box, hw: tuple[int, int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Return the slices of the intersection of a box and an image of size `hw`: (in the box, in the image)."""
    height, width = hw
    shared = Box(max(box.top, 0), min(box.bottom, height - 1), max(box.left, 0), min(box.right, width - 1))
    top, left = box.top, box.left
    return Box(shared.top - top, shared.bottom - top, shared.left - left, shared.right - left).slices(), shared.slices()


def resized(array: np.ndarray, hw: tuple[int, int], *, nearest: bool = False) -> np.ndarray:
    """Resize (h, w) or (h, w, 3) with OpenCV, bilinearly or to the nearest pixel."""
    height, width = hw
    return cv2.resize(array, (width, height), interpolation=cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR)


def whole_pixels(clicks: Clicks, box: Box, hw: tuple[int, int]) -> Clicks:
    """Return the clicks inside a box, in the frame of the box at size `hw`, truncated to whole pixels."""
    inside = clicks.yx - (box.top, box.left)
    kept = ((inside >= 0) & (inside < box.hw)).all(1)
    yx = np.floor((inside[kept] + 0.5) * hw / box.hw)
    return Clicks(np.minimum(yx, np.array(hw) - 1.0), clicks.positive[kept])


def view_of(
    image: Tensor, prob: np.ndarray, clicks: Clicks, box: Box, hw: tuple[int, int], masking: Masking, **more: object
) -> View:
    """Return the view of a box at size `hw`; `image` is (3, h, w) in 0..1, `prob` (h, w) the mask so far."""
    _, (rows, columns) = overlap(box, (image.shape[1], image.shape[2]))
    shared = to_host((image[:, rows, columns] * 255).round().byte().permute(1, 2, 0))
    pixels = cut(shared, Box(*(side - start for start, side in zip(_origin(rows, columns), box, strict=True))))
    small = to_device(resized(pixels, hw), image.device).permute(2, 0, 1).float() / 255
    prev_mask = to_device(masking.prev_mask(prob, box, hw), image.device)[None]
    return View(image=small, prev_mask=prev_mask, clicks=whole_pixels(clicks, box, hw), **more)  # pyright: ignore[reportArgumentType]


def _origin(rows: slice, columns: slice) -> tuple[int, int, int, int]:
    return rows.start, rows.start, columns.start, columns.start


def paste_back(base: np.ndarray, patches: Iterable[Patch]) -> tuple[np.ndarray, np.ndarray]:
    """Return `base` (h, w) with the mean of the patches where they lie, and the patches per pixel (float32)."""
    hw = (base.shape[0], base.shape[1])
    total, count = np.zeros(hw, np.float32), np.zeros(hw, np.float32)
    for patch in patches:
        inside, place = overlap(patch.box, hw)
        total[place] += resized(patch.prob, patch.box.hw)[inside]
        count[place] += 1
    return np.where(count > 0, total / np.maximum(count, 1), base), count
