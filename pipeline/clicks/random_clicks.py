"""The first clicks of a training sample, drawn from the object's mask alone by one of the methods in CLICK_LAWS.

RITM's method is in this file (docs/PAPERS.md, RITM: training). Positive clicks fall on the object, mostly away from its
border; negative ones fall beside it, on other objects, or anywhere outside. Their numbers are geometrically
distributed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Annotated

import cv2
import numpy as np

from models.errors import InputError, lookup
from models.records import Above, AtLeast, AtMost, Count, Fraction, Positive, Record
from pipeline.clicks.click_rows import RANDOM_ORDER, TrainingClicks, click_rows
from pipeline.clicks.dios_clicks import DiosClicksConfig, dios_clicks
from pipeline.clicks.first_clicks import first_clicks
from pipeline.clicks.walk_clicks import WalkClicksConfig, walk_clicks


@dataclass(frozen=True, kw_only=True)
class RandomClicksConfig(Record):
    """Numbers and places of a sample's first clicks."""

    called = "clicks"

    law: str = "ritm"
    """Method that draws the clicks: ritm, dios (Xu et al., 2016), walk (FocusCut) or first (EMC-Click: first clicks
    only). dios and walk use only max_clicks, the merging, the order and their own group of settings."""
    max_clicks: Positive = 24
    """Maximum number of clicks of one sign (K)."""
    prob_gamma: Annotated[float, Above(0), AtMost(1)] = 0.8
    """Ratio of the probabilities of n + 1 and n clicks, in (0, 1]."""
    merge_objects_prob: Fraction = 0.15
    """Probability of segmenting several objects as one."""
    max_merged: Positive = 2
    """Maximum number of objects segmented as one."""
    erode_prob: Fraction = 0.9
    """Probability that positive clicks keep away from the object's border."""
    erode_iterations: Count = 3
    """Distance that they then keep from the border, in pixels."""
    min_eroded_area: Count = 10
    """An object with at most this many pixels left after erosion is not eroded."""
    background_weight: Annotated[float, AtLeast(0)] = 0.1
    """Relative weight of negative clicks anywhere outside the object."""
    others_weight: Annotated[float, AtLeast(0)] = 0.4
    """Relative weight of negative clicks on other objects."""
    border_weight: Annotated[float, AtLeast(0)] = 0.5
    """Relative weight of negative clicks in a ring around the object."""
    expand_ratio: Annotated[float, AtLeast(0)] = 0.1
    """Width of that ring, as a fraction of the square root of the object's area."""
    permute_order: bool = False
    """Number the clicks 2, 3, ... at random (CFR-ICL) instead of all 100."""
    dios: DiosClicksConfig = field(default_factory=DiosClicksConfig)
    walk: WalkClicksConfig = field(default_factory=WalkClicksConfig)

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        lookup("click law", self.law, CLICK_LAWS)
        weights = (self.background_weight, self.others_weight, self.border_weight)
        if not any(weights):
            raise InputError(
                f"clicks.background_weight, others_weight, border_weight are {weights}: "
                "expected numbers >= 0, not all 0"
            )


class _Areas:
    """The areas of negative clicks, each computed when it is first used."""

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
    """Return the pixels outside a bool mask, at most ceil(`expand_ratio` * sqrt(area)) rows and columns from it."""
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
    """Draw a number in `first`..`last`, each `gamma` times as likely as the one before."""
    return min(last, first + int(np.searchsorted(_count_law(first, last, gamma), rng.random(), side="right")))


def _positive_area(mask: np.ndarray, config: RandomClicksConfig, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < config.erode_prob and config.erode_iterations:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            margin = config.erode_iterations  # so that the edge of the cut does not count as the image's edge
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
    # Several objects as one: each must be clicked, and further clicks fall anywhere on them.
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


def ritm_clicks(
    object_masks: Sequence[np.ndarray], others: np.ndarray, rng: np.random.Generator, config: RandomClicksConfig
) -> tuple[list[int], list[int]]:
    """Draw clicks like RITM; a click whose area is empty is left out, and a pixel may be clicked twice."""
    target = _union(object_masks, others)
    positive = _positive(object_masks, config, rng) if target.any() else []
    return positive, _negative(target, others, config, rng)


def _union(object_masks: Sequence[np.ndarray], others: np.ndarray) -> np.ndarray:
    return np.logical_or.reduce(object_masks) if len(object_masks) else np.zeros(others.shape, bool)


ClickLaw = Callable[
    [Sequence[np.ndarray], np.ndarray, np.random.Generator, RandomClicksConfig], tuple[list[int], list[int]]
]
"""(masks of the target's objects, other objects, rng, config) -> positive and negative clicks.

Masks bool (h, w); clicks as row-major pixel numbers, positive ones on the target, negative ones outside it. Clicks
beyond `config.max_clicks` of a sign are dropped."""

CLICK_LAWS: dict[str, ClickLaw] = {
    "ritm": ritm_clicks,
    "dios": lambda masks, others, rng, config: dios_clicks(_union(masks, others), others, rng, config.dios),
    "walk": lambda masks, others, rng, config: walk_clicks(_union(masks, others), rng, config.walk),
    "first": lambda masks, others, rng, config: first_clicks([_positive_area(m, config, rng) for m in masks], rng),
}
FIRST_LAWS = ("first",)
"""Methods whose clicks are first clicks, numbered 0: one for each of the objects that count as one."""


def random_clicks(
    object_masks: Sequence[np.ndarray], others: np.ndarray, rng: np.random.Generator, config: RandomClicksConfig
) -> TrainingClicks:
    """Draw the first clicks on the union of `object_masks` with the config's method; `others` marks other objects.

    All masks bool (h, w). Without an object (`object_masks` empty), only negative clicks are drawn, anywhere. Ignored
    pixels count as background, as in RITM.
    """
    drawn = lookup("click law", config.law, CLICK_LAWS)(object_masks, others, rng, config)
    positive, negative = (pixels[: config.max_clicks] for pixels in drawn)
    num = len(positive) + len(negative)
    order = 2 + rng.permutation(num) if config.permute_order else RANDOM_ORDER
    if config.law in FIRST_LAWS:
        order = 0
    return click_rows(positive, negative, order, others.shape, config.max_clicks)
