"""Resize, mirror and crop an image and its masks in one step; only pixels that the crop shows are resized."""

from collections.abc import Sequence

import cv2
import numpy as np


def resized(arrays: Sequence[np.ndarray], scale: float) -> list[np.ndarray]:
    """Resize an image (first, bilinear) and masks (nearest), all of one size, by `scale`; sides are rounded."""
    height, width = arrays[0].shape[:2]
    return _resize(arrays, _scaled(height, scale), _scaled(width, scale))


def resized_crop(
    arrays: Sequence[np.ndarray], scale: float, crop_hw: tuple[int, int], rng: np.random.Generator, *, mirror: bool
) -> list[np.ndarray]:
    """Resize by `scale`, pad (black, centred) to `crop_hw` if that is larger, and crop at a random place.

    With `mirror`, half of the results are mirrored. The first array is the image, the others are masks. A crop shows
    whole source pixels, so its scale may differ from `scale` by half a pixel over the crop's width.
    """
    rows, columns = (_Axis.draw(n, scale, c, rng) for n, c in zip(arrays[0].shape[:2], crop_hw, strict=True))
    cut = _resize([array[rows.source, columns.source] for array in arrays], rows.length, columns.length)
    if mirror and rng.random() < 0.5:
        cut = [cv2.flip(array, 1) for array in cut]
    if (rows.length, columns.length) == tuple(crop_hw):
        return cut
    padded = [np.zeros((*crop_hw, *array.shape[2:]), array.dtype) for array in cut]
    for whole, part in zip(padded, cut, strict=True):
        whole[rows.start : rows.start + rows.length, columns.start : columns.start + columns.length] = part
    return padded


class _Axis:
    """One axis of a crop: the `source` slice that it shows, its `length` once resized, and its `start` in the crop."""

    def __init__(self, source: slice, length: int, start: int) -> None:
        self.source, self.length, self.start = source, length, start

    @classmethod
    def draw(cls, num: int, scale: float, crop: int, rng: np.random.Generator) -> "_Axis":
        scaled = _scaled(num, scale)
        if scaled <= crop:
            return cls(slice(0, num), scaled, (crop - scaled) // 2)
        start = int(rng.integers(scaled - crop + 1))
        shown = max(1, round(crop * num / scaled))
        first = min(round(start * num / scaled), num - shown)
        return cls(slice(first, first + shown), crop, 0)


def _scaled(num: int, scale: float) -> int:
    return max(1, round(num * scale))


def _resize(arrays: Sequence[np.ndarray], height: int, width: int) -> list[np.ndarray]:
    image, *masks = arrays
    out = [cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)]
    for mask in masks:
        # Most images have no ignored pixels, and zeros need no resize.
        if mask.dtype == np.uint8 and not mask.any():
            out.append(np.zeros((height, width), np.uint8))
        else:
            out.append(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST))
    return out
