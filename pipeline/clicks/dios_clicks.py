"""First clicks as drawn in Deep Interactive Object Selection (Xu et al., CVPR 2016, section 3.1).

Positive clicks keep away from the object's border and from each other. Negative clicks follow one of three strategies:
around the object, on other objects, or evenly around the object. Ours, because the paper does not say: a sample uses
one strategy, all equally likely, and pieces of other objects that touch count as one object.
"""

from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np

from models.errors import InputError
from models.records import AtLeast, Count, Positive, Record
from pipeline.clicks.spaced import draw_spaced, pixels_around, pixels_inside, squared_gaps


@dataclass(frozen=True, kw_only=True)
class DiosClicksConfig(Record):
    """Numbers and distances of DIOS's clicks, by strategy."""

    called = "clicks.dios"

    max_positive: Positive = 5
    """Maximum number of positive clicks; the minimum is 1."""
    margin: Annotated[float, AtLeast(0)] = 5
    """Minimum distance of a click from the border of the object that it is on or beside, in pixels."""
    spacing: Annotated[float, AtLeast(1)] = 10
    """Minimum distance between clicks of one strategy, in pixels."""
    reach: Annotated[float, AtLeast(1)] = 40
    """Maximum distance of negative clicks from the object, in pixels, except for those on other objects."""
    max_around: Count = 10
    """Maximum number of negative clicks of the first strategy, which lie around the object."""
    max_on_other: Count = 5
    """Maximum number of negative clicks of the second strategy, on each other object."""
    num_covering: Count = 10
    """Number of negative clicks of the third strategy, each as far as possible from the object and the clicks before
    it."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        if self.reach < self.margin:
            raise InputError(f"clicks.dios.reach is {self.reach}: expected a number >= margin, which is {self.margin}")


def dios_clicks(
    target: np.ndarray, others: np.ndarray, rng: np.random.Generator, config: DiosClicksConfig
) -> tuple[list[int], list[int]]:
    """Draw positive and negative clicks, as row-major pixel numbers, no pixel twice; masks bool (h, w).

    If no pixel of the target is inside the margin, the margin is halved until one is. An empty target gets only
    negative clicks, anywhere or on other objects. Both lists are in random order, so that a caller may truncate them.
    """
    positive = _positive(target, rng, config)
    negative = _negative(target, others & ~target, rng, config)
    return positive, rng.permutation(np.array(negative, np.int64)).tolist()


def _positive(target: np.ndarray, rng: np.random.Generator, config: DiosClicksConfig) -> list[int]:
    if not target.any():
        return []
    num = int(rng.integers(1, config.max_positive + 1))
    return draw_spaced(_deep_pixels(target, config.margin), num, config.spacing, target.shape[1], rng)


def _deep_pixels(mask: np.ndarray, margin: float) -> np.ndarray:
    """Return the pixels at least `margin` inside a mask that is not empty; `margin` is halved until there are any."""
    while not len(pixels := pixels_inside(mask, margin)):
        margin /= 2
    return pixels


def _negative(target: np.ndarray, others: np.ndarray, rng: np.random.Generator, config: DiosClicksConfig) -> list[int]:
    strategies = ["around", "others", "covering"] if others.any() else ["around", "covering"]
    strategy = strategies[int(rng.integers(len(strategies)))]
    if strategy == "others":
        return _on_others(others, rng, config)
    width = target.shape[1]
    if strategy == "around":
        pixels = pixels_around(target, config.margin, config.reach)
        return draw_spaced(pixels, int(rng.integers(config.max_around + 1)), config.spacing, width, rng)
    return _covering(target, rng, config)


def _on_others(others: np.ndarray, rng: np.random.Generator, config: DiosClicksConfig) -> list[int]:
    num_pieces, labels = cv2.connectedComponents(others.astype(np.uint8))
    drawn: list[int] = []
    for label in range(1, num_pieces):
        num = int(rng.integers(config.max_on_other + 1))
        if num:
            pixels = _deep_pixels(labels == label, config.margin)
            drawn += draw_spaced(pixels, num, config.spacing, others.shape[1], rng, drawn)
    return drawn


def _covering(target: np.ndarray, rng: np.random.Generator, config: DiosClicksConfig) -> list[int]:
    """Start with a random pixel around; then add, in turn, the pixel farthest from the object and those taken."""
    width = target.shape[1]
    pixels = pixels_around(target, config.margin, config.reach)
    if not len(pixels) or config.num_covering == 0:
        return []
    gaps = np.full(len(pixels), np.inf)
    if target.any():
        outside = cv2.distanceTransform((~target).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        gaps = outside.ravel()[pixels] ** 2
    drawn = [int(rng.choice(pixels))]
    while len(drawn) < config.num_covering:
        gaps = np.minimum(gaps, squared_gaps(pixels, drawn[-1], width))
        if gaps.max() == 0:
            break
        drawn.append(int(pixels[gaps.argmax()]))
    return drawn
