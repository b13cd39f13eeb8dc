"""FocusCut's clicks for training: walks over the pixels of a sign, each click at some distance from earlier ones.

The published text names the sets of margins and spacings. Ours: each walk draws one of each, and all numbers of clicks
are equally likely (docs/PAPERS.md, FocusCut: training).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from models.errors import InputError
from models.records import AtLeast, Count, Factor, Record
from pipeline.clicks.centre import centre_click
from pipeline.clicks.spaced import bounds, draw_spaced, pixels_around, pixels_inside

Margins = tuple[Annotated[float, AtLeast(0)], ...]
Spacings = tuple[Annotated[float, AtLeast(1)], ...]


@dataclass(frozen=True, kw_only=True)
class WalkClicksConfig(Record):
    """Number of clicks after the first, and their distances from the object's border and from each other."""

    called = "clicks.walk"

    max_positive: Count = 10
    """Maximum number of positive clicks after the first; every number up to it is equally likely."""
    max_negative: Count = 10
    """Maximum number of negative clicks."""
    positive_margins: Margins = (5, 10, 15, 20)
    """Minimum distances of positive clicks from the border, in pixels, one of which is drawn."""
    positive_spacings: Spacings = (7, 10, 20)
    """Minimum distances between positive clicks, in pixels, one of which is drawn."""
    negative_margins: Margins = (15, 40, 60)
    """Minimum distances of negative clicks from the object, in pixels, one of which is drawn."""
    negative_spacings: Spacings = (10, 15, 25)
    """Minimum distances between negative clicks, in pixels, one of which is drawn."""
    reach: Factor = 80
    """Maximum distance of negative clicks from the object, in pixels."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        for name in ("positive_margins", "positive_spacings", "negative_margins", "negative_spacings"):
            if not getattr(self, name):
                raise InputError(f"clicks.walk.{name} is (): expected one or more distances")


def walk(
    mask: np.ndarray,
    allowed: np.ndarray | None,
    taken: Sequence[int],
    rng: np.random.Generator,
    config: WalkClicksConfig,
) -> tuple[list[int], list[int]]:
    """Draw positive and negative clicks on a bool mask (h, w), as row-major pixel numbers, away from `taken`.

    Clicks fall only where `allowed` (bool (h, w); None: everywhere). There are fewer if the distances leave no pixel,
    and none of a sign whose margin leaves none. Without an object, negative clicks fall anywhere.
    """
    found: list[list[int]] = []
    for positive, most in ((True, config.max_positive), (False, config.max_negative)):
        num = int(rng.integers(most + 1))
        margins = config.positive_margins if positive else config.negative_margins
        spacings = config.positive_spacings if positive else config.negative_spacings
        margin, spacing = margins[int(rng.integers(len(margins)))], spacings[int(rng.integers(len(spacings)))]
        if num == 0:
            found.append([])
            continue
        pixels = pixels_inside(mask, margin) if positive else pixels_around(mask, margin, config.reach)
        if allowed is not None:
            pixels = pixels[allowed.ravel()[pixels]]
        found.append(draw_spaced(pixels, num, spacing, mask.shape[1], rng, taken))
    return found[0], found[1]


def walk_clicks(target: np.ndarray, rng: np.random.Generator, config: WalkClicksConfig) -> tuple[list[int], list[int]]:
    """Draw the first clicks on a target, bool (h, w), as in FocusCut's global view: the centre, then walks.

    Returns positive and negative clicks as row-major pixel numbers, no pixel twice. An empty target gets only negative
    ones.
    """
    first: list[int] = []
    if target.any():
        rows, columns = bounds(target, 0)
        click = centre_click(target[rows, columns], np.zeros_like(target[rows, columns]))
        first = [(int(click.y) + rows.start) * target.shape[1] + int(click.x) + columns.start]
    positive, negative = walk(target, None, first, rng, config)
    return first + positive, negative
