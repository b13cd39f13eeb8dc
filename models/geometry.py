"""Boxes, size rules, and maps of coordinates between an image and a view of it. Needs only NumPy."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True)
class ShortSide:
    """A size rule: scale to a short side of `side`, then round both sides down to multiples of `multiple`."""

    side: int
    multiple: int = 1
    truncate: bool = False
    """Truncate a fractional side instead of rounding it (FocusCut; EMC-Click rounds)."""

    def apply(self, hw: tuple[int, int]) -> tuple[int, int]:
        """Return the size (h, w) for an image of size `hw`."""
        scale = self.side / min(hw)
        sides = [self.side if n == min(hw) else int(n * scale) if self.truncate else round(n * scale) for n in hw]
        height, width = (max(self.multiple, n // self.multiple * self.multiple) for n in sides)
        return height, width


@dataclass(frozen=True)
class LongSide:
    """A size rule: scale to a long side of `side`, the other side rounded half up (SAM)."""

    side: int

    def apply(self, hw: tuple[int, int]) -> tuple[int, int]:
        """Return the size (h, w) for an image of size `hw`."""
        scale = self.side / max(hw)
        return max(1, int(hw[0] * scale + 0.5)), max(1, int(hw[1] * scale + 0.5))


SizeRule = int | tuple[int, int] | ShortSide | LongSide | None
"""Size of a view: None = unchanged, an int = the longest side, (h, w) = exactly this size, or a rule above."""


class Box(NamedTuple):
    """An axis-aligned box of pixels; all four ends are inside."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bottom - self.top + 1, self.right - self.left + 1

    def slices(self) -> tuple[slice, slice]:
        """Row and column slices that cut the box out of an image."""
        return slice(self.top, self.bottom + 1), slice(self.left, self.right + 1)


def whole(hw: tuple[int, int]) -> Box:
    """Return the box of a whole image of size `hw`."""
    return Box(0, hw[0] - 1, 0, hw[1] - 1)


def apply_size_rule(rule: SizeRule, hw: tuple[int, int]) -> tuple[int, int]:
    """Return the size (h, w) for an image or crop of size `hw`; sides are rounded half to even, as in public code."""
    if rule is None:
        return hw
    if isinstance(rule, ShortSide | LongSide):
        return rule.apply(hw)
    if isinstance(rule, int):
        scale = rule / max(hw)
        return max(1, round(hw[0] * scale)), max(1, round(hw[1] * scale))
    return rule


def interval_iou(low_a: int, high_a: int, low_b: int, high_b: int) -> float:
    """IoU of two intervals of pixels, ends included."""
    intersection = max(0, min(high_a, high_b) - max(low_a, low_b) + 1)
    union = max(1e-6, max(high_a, high_b) - min(low_a, low_b) + 1)
    return intersection / union


def box_iou(a: Box, b: Box) -> float:
    """Return the product of the IoUs of rows and columns: the public zoom-in's overlap, not the IoU of areas."""
    return interval_iou(a.top, a.bottom, b.top, b.bottom) * interval_iou(a.left, a.right, b.left, b.right)


def expand(box: Box, expansion: float, min_side: int, hw: tuple[int, int]) -> Box:
    """Grow a box about its centre by `expansion`, to at least `min_side` pixels a side, and clamp it to the image."""
    ends: list[int] = []
    for low, high, limit in ((box.top, box.bottom, hw[0]), (box.left, box.right, hw[1])):
        centre = 0.5 * (low + high)
        side = max(expansion * (high - low + 1), min_side)
        ends += [max(0, round(centre - 0.5 * side)), min(limit - 1, round(centre + 0.5 * side))]
    return Box(*ends)


def contains(box: Box, yx: np.ndarray) -> bool:
    """Whether all points (n, 2) lie inside; the bottom and right edges count as outside, as in the public code."""
    inside = (box.top <= yx[:, 0]) & (yx[:, 0] < box.bottom) & (box.left <= yx[:, 1]) & (yx[:, 1] < box.right)
    return bool(inside.all())


def to_view(yx: np.ndarray, box: Box, view_hw: tuple[int, int]) -> np.ndarray:
    """Map points (n, 2) of the image into a crop resized to `view_hw`; results may be fractional or outside.

    There is no half-pixel term, as in the public code (docs/PAPERS.md, RITM: zoom-in).
    """
    height, width = box.hw
    return np.stack([view_hw[0] * (yx[:, 0] - box.top) / height, view_hw[1] * (yx[:, 1] - box.left) / width], axis=1)
