"""The clicks a training sample starts with, drawn from the object's mask alone (RITM, section 3.2; CFR-ICL's order).

Positive clicks fall on the object, most often away from its border; negative ones beside it, on other objects, or
anywhere outside. Counts follow a geometric law.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

from models.errors import InputError

RANDOM_ORDER = 100  # RITM's mark for "no order": later clicks, made one by one, count from 1


@dataclass(frozen=True, kw_only=True)
class RandomClicksConfig:
    """How many first clicks a sample gets and where they fall."""

    max_clicks: int = 24
    """Most clicks of one sign (K)."""
    prob_gamma: float = 0.8
    """How fast the odds fall with every further click, in (0, 1]."""
    merge_objects_prob: float = 0.15
    """How often several objects are taken for one."""
    max_merged: int = 2
    """Most objects taken for one."""
    erode_prob: float = 0.9
    """How often positive clicks keep away from the object's border."""
    erode_iterations: int = 3
    """How far they then keep away, in pixels."""
    min_eroded_area: int = 10
    """An object that erodes to this many pixels or fewer is left whole."""
    background_weight: float = 0.1
    """Odds of a negative click anywhere outside the object."""
    others_weight: float = 0.4
    """Odds of a negative click on another object."""
    border_weight: float = 0.5
    """Odds of a negative click in a ring around the object."""
    expand_ratio: float = 0.1
    """Width of that ring, as a part of the square root of the object's area."""
    permute_order: bool = False
    """Number the clicks 2, 3, ... at random (CFR-ICL) rather than all 100."""

    def __post_init__(self) -> None:
        """Refuse values that mean nothing."""
        for flag, given, least in (
            ("max_clicks", self.max_clicks, 1),
            ("max_merged", self.max_merged, 1),
            ("erode_iterations", self.erode_iterations, 0),
            ("min_eroded_area", self.min_eroded_area, 0),
        ):
            if given < least:
                raise InputError(f"clicks.{flag} is {given}: expected a whole number >= {least}")
        for flag, given in (("merge_objects_prob", self.merge_objects_prob), ("erode_prob", self.erode_prob)):
            if not 0 <= given <= 1:
                raise InputError(f"clicks.{flag} is {given}: expected a probability between 0 and 1")
        if not 0 < self.prob_gamma <= 1:
            raise InputError(f"clicks.prob_gamma is {self.prob_gamma}: expected more than 0 and at most 1")
        weights = (self.background_weight, self.others_weight, self.border_weight)
        if min(weights) < 0 or sum(weights) <= 0:
            raise InputError(
                f"clicks.background_weight, others_weight, border_weight are {weights}: "
                "expected numbers >= 0, not all 0"
            )
        if self.expand_ratio < 0:
            raise InputError(f"clicks.expand_ratio is {self.expand_ratio}: expected a number >= 0")


@dataclass(frozen=True, slots=True, eq=False)
class TrainingClicks:
    """Clicks of both signs in arrays of fixed size: positive in rows 0..K-1, negative in rows K..2K-1.

    `yx` float32 (2K, 2), `valid` bool (2K,), `order` int16 (2K,). Each half is filled from its start; unused rows
    hold yx = -1 and order = -1.
    """

    yx: np.ndarray
    valid: np.ndarray
    order: np.ndarray


class _Areas:
    """Where negative clicks may fall, each area found when it is first asked for."""

    def __init__(self, target: np.ndarray, others: np.ndarray, config: RandomClicksConfig) -> None:
        self.target, self.other_mask, self.config = target, others, config

    @cached_property
    def background(self) -> np.ndarray:
        return np.flatnonzero(~self.target)

    @cached_property
    def others(self) -> np.ndarray:
        found = np.flatnonzero(self.other_mask & ~self.target)
        return found if len(found) else self.background

    @cached_property
    def border(self) -> np.ndarray:
        return np.flatnonzero(border_ring(self.target, self.config.expand_ratio))


def border_ring(mask: np.ndarray, expand_ratio: float) -> np.ndarray:
    """Mark the pixels outside a bool mask, at most ceil(`expand_ratio` * sqrt(area)) rows and columns from it."""
    ring = np.zeros(mask.shape, bool)
    area = int(np.count_nonzero(mask))
    reach = math.ceil(expand_ratio * math.sqrt(area))
    if area == 0 or reach == 0:
        return ring
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    near = np.s_[max(0, rows[0] - reach) : rows[-1] + reach + 1, max(0, columns[0] - reach) : columns[-1] + reach + 1]
    grown = cv2.dilate(mask[near].astype(np.uint8), np.ones((3, 3), np.uint8), iterations=reach)
    ring[near] = (grown > 0) & ~mask[near]
    return ring


@lru_cache(maxsize=16)
def _count_law(first: int, last: int, gamma: float) -> np.ndarray:
    law = gamma ** np.arange(last - first + 1)
    return np.cumsum(law / law.sum())


def draw_count(first: int, last: int, gamma: float, rng: np.random.Generator) -> int:
    """Draw a number in `first`..`last`, each next one `gamma` times as likely as the one before."""
    return min(last, first + int(np.searchsorted(_count_law(first, last, gamma), rng.random(), side="right")))


def _positive_area(mask: np.ndarray, config: RandomClicksConfig, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < config.erode_prob and config.erode_iterations:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            margin = config.erode_iterations  # keeps the cut's edge from being taken for the image's edge
            box = np.s_[max(0, rows[0] - margin) : rows[-1] + margin + 1]
            box = (box, np.s_[max(0, columns[0] - margin) : columns[-1] + margin + 1])
            eroded = np.zeros(mask.shape, bool)
            kernel = np.ones((3, 3), np.uint8)
            eroded[box] = cv2.erode(mask[box].astype(np.uint8), kernel, iterations=config.erode_iterations) > 0
            if np.count_nonzero(eroded) > config.min_eroded_area:
                return eroded
    return mask


def _draw(area: np.ndarray, num: int, rng: np.random.Generator) -> list[int]:
    return area[rng.integers(len(area), size=num)].tolist() if len(area) and num else []


def _positive(masks: Sequence[np.ndarray], config: RandomClicksConfig, rng: np.random.Generator) -> list[int]:
    areas = [_positive_area(mask, config, rng) for mask in masks]
    if len(areas) == 1:
        return _draw(np.flatnonzero(areas[0]), draw_count(1, config.max_clicks, config.prob_gamma, rng), rng)
    # Objects taken for one: each must be clicked, further clicks fall anywhere on them.
    firsts = [pixel for area in areas for pixel in _draw(np.flatnonzero(area), 1, rng)]
    num_more = draw_count(0, config.max_clicks, config.prob_gamma, rng)
    return (firsts + _draw(np.flatnonzero(np.logical_or.reduce(areas)), num_more, rng))[: config.max_clicks]


def _negative(
    target: np.ndarray, others: np.ndarray, config: RandomClicksConfig, rng: np.random.Generator
) -> list[int]:
    num = draw_count(0, config.max_clicks, config.prob_gamma, rng)
    areas = _Areas(target, others, config)
    if not target.any():
        return _draw(areas.background, num, rng)
    choices: list[Callable[[], np.ndarray]] = [lambda: areas.background, lambda: areas.others, lambda: areas.border]
    limits = np.cumsum([config.background_weight, config.others_weight, config.border_weight])
    drawn = np.searchsorted(limits / limits[-1], rng.random(num), side="right")
    return [pixel for choice in drawn for pixel in _draw(choices[min(int(choice), 2)](), 1, rng)]


def random_clicks(
    object_masks: Sequence[np.ndarray], others: np.ndarray, rng: np.random.Generator, config: RandomClicksConfig
) -> TrainingClicks:
    """Draw the first clicks on the union of `object_masks`; `others` marks other objects, all bool (h, w).

    A click whose area is empty is left out. Without any object (`object_masks` empty) only negative clicks are drawn,
    anywhere. Ignored pixels count as background, as in RITM.
    """
    target = np.logical_or.reduce(object_masks) if len(object_masks) else np.zeros(others.shape, bool)
    positive = _positive(object_masks, config, rng) if target.any() else []
    pixels = positive, _negative(target, others, config, rng)
    capacity = config.max_clicks
    yx = np.full((2 * capacity, 2), -1, np.float32)
    valid = np.zeros(2 * capacity, bool)
    order = np.full(2 * capacity, -1, np.int16)
    for half, drawn in enumerate(pixels):
        rows = slice(half * capacity, half * capacity + len(drawn))
        yx[rows] = np.stack(np.unravel_index(np.array(drawn, np.int64), target.shape), axis=1)
        valid[rows] = True
    order[valid] = 2 + rng.permutation(int(valid.sum())) if config.permute_order else RANDOM_ORDER
    return TrainingClicks(yx, valid, order)
