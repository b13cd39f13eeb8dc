"""Coarse masks made from good ones, as in CascadePSP (Cheng et al., CVPR 2020): the input of a refinement.

Parts of the mask are dilated and eroded at random until its IoU with the object is low enough.
"""

from dataclasses import dataclass
from functools import cache
from typing import Annotated

import cv2
import numpy as np

from models.records import AtLeast, Count, Fraction, Positive, Record, Rising

CHUNK = 16
"""Rounds whose random numbers are drawn together, for speed."""


@dataclass(frozen=True, kw_only=True)
class CoarseMaskConfig(Record):
    """How coarse a mask becomes, and how it is changed."""

    called = "coarse"

    max_iou: Fraction = 0.6
    """The mask is coarse enough when its IoU with the object is below this."""
    max_rounds: Count = 250
    """Maximum number of rounds; after that the mask is used as it is."""
    num_rectangles: Positive = 4
    """Random rectangles per round, each dilated or eroded."""
    kernels: Annotated[tuple[Annotated[int, AtLeast(2)], int], Rising()] = (3, 9)
    """Smallest and largest side of the structuring element, in pixels."""
    dot_prob: Fraction = 0.25
    """Probability of setting or clearing a rectangle's centre pixel first, which seeds holes and islands."""


@cache
def _elements(side: int) -> tuple[np.ndarray, ...]:
    """Return the structuring elements of a side: a square, a disk, and two ellipses half as high or half as wide."""
    shapes = (cv2.MORPH_RECT, (side, side)), (cv2.MORPH_ELLIPSE, (side, side))
    flat = (cv2.MORPH_ELLIPSE, (side, side // 2)), (cv2.MORPH_ELLIPSE, (side // 2, side))
    return tuple(cv2.getStructuringElement(shape, size) for shape, size in shapes + flat)


def coarse_mask(
    mask: np.ndarray, rng: np.random.Generator, config: CoarseMaskConfig, within: np.ndarray | None = None
) -> np.ndarray:
    """Make a coarse mask from a good one, both bool (h, w), inside `within` (bool (h, w); None: everywhere).

    Pixels outside a rectangle, or outside the image, do not influence its dilation or erosion.
    """
    good = mask.astype(np.uint8)
    room = None if within is None or within.all() else within.astype(np.uint8)
    made, shared = good.copy(), np.empty_like(good)
    num_good = cv2.countNonZero(good)
    for first in range(0, config.max_rounds, CHUNK):
        rounds = _draw_rounds(min(CHUNK, config.max_rounds - first), good.shape, rng, config)
        for start in range(0, len(rounds), config.num_rectangles):
            for rectangle in rounds[start : start + config.num_rectangles]:
                _change(made, *rectangle)
            if room is not None:
                cv2.bitwise_and(made, room, dst=made)
            num_shared = cv2.countNonZero(cv2.bitwise_and(made, good, dst=shared))
            if num_shared < config.max_iou * (cv2.countNonZero(made) + num_good - num_shared):
                return made > 0
    return made > 0


def _draw_rounds(
    num: int, hw: tuple[int, ...], rng: np.random.Generator, config: CoarseMaskConfig
) -> list[tuple[int, int, int, int, int, bool, int, int]]:
    """Draw the rectangles of `num` rounds, the operation on each, and its structuring element."""
    uniform = rng.random((8, num * config.num_rectangles))
    least, most = config.kernels
    top, left = (uniform[0] * hw[0]).astype(int), (uniform[1] * hw[1]).astype(int)
    bottom = top + 1 + (uniform[2] * (hw[0] - top)).astype(int)
    right = left + 1 + (uniform[3] * (hw[1] - left)).astype(int)
    dot = np.where(uniform[4] < config.dot_prob, (uniform[4] < config.dot_prob / 2).astype(int), -1)
    side, shape = least + (uniform[6] * (most + 1 - least)).astype(int), (uniform[7] * 4).astype(int)
    drawn = top, bottom, left, right, dot, uniform[5] < 0.5, side, shape
    return list(zip(*(column.tolist() for column in drawn), strict=True))


def _change(
    made: np.ndarray, top: int, bottom: int, left: int, right: int, dot: int, grow: bool, side: int, shape: int
) -> None:
    """Dilate (`grow`) or erode a rectangle of a uint8 mask in place; first set its centre to `dot` (-1: leave it)."""
    part = made[top:bottom, left:right]
    if dot >= 0:
        part[(bottom - top) // 2, (right - left) // 2] = dot
    if 0 < cv2.countNonZero(part) < part.size:  # a third of the rectangles have nothing to change
        part[...] = (cv2.dilate if grow else cv2.erode)(part, _elements(side)[shape])
