"""A robot user nearer to people: most often at the worst error, towards its middle, but never exactly there."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from models.interaction import Click, Clicks
from models.records import AtLeast, AtMost, Fraction, Record
from pipeline.clicks.centre import centre_click
from pipeline.clicks.oracle import squared_distances
from pipeline.clicks.regions import Region, largest_regions

TRIES = 10


@dataclass(frozen=True, kw_only=True)
class Realistic(Record):
    """How a person clicks; ours, measured on nobody."""

    called = "protocol.realistic"

    power: Annotated[float, AtLeast(0), AtMost(100)] = 2.0
    """A pixel is chosen with odds of its distance to the region's border to this power; 0: anywhere in it."""
    jitter: Annotated[float, AtLeast(0), AtMost(10)] = 0.05
    """How far the hand misses: standard deviation, as a part of the square root of the region's area."""
    second_region: Fraction = 0.1
    """How often the second-largest region is taken, where there is one."""


DEFAULTS = Realistic()


def realistic_click(
    object_mask: np.ndarray,
    ignore_mask: np.ndarray,
    mask: np.ndarray,
    clicks: Clicks,
    rng: np.random.Generator,
    config: Realistic = DEFAULTS,
) -> Click:
    """Click a random pixel of the largest error region, or sometimes of the second, rather in its middle.

    If no error is left: the object's centre.
    """
    regions = largest_regions(object_mask, ignore_mask, mask, clicks, 2)
    if not regions:
        return centre_click(object_mask, ignore_mask)
    second = rng.random() < config.second_region
    region = regions[1] if second and len(regions) > 1 else regions[0]
    flat = np.flatnonzero(region.free)
    depths = np.sqrt(squared_distances(region.pixels).ravel()[flat])
    odds = (depths / depths.max()) ** config.power  # the deepest has odds 1: no power lets all of them vanish
    return region.click(_missed(region, int(rng.choice(flat, p=odds / odds.sum())), rng, config.jitter))


def _missed(region: Region, flat: int, rng: np.random.Generator, jitter: float) -> int:
    """Move a pixel by a normal distance that does not leave the region's free pixels; keep it if none is found."""
    height, width = region.free.shape
    y, x = divmod(flat, width)
    sigma = jitter * float(np.sqrt(np.count_nonzero(region.pixels)))
    for dy, dx in np.rint(rng.normal(0.0, sigma, (TRIES, 2))).astype(int):
        if 0 <= y + dy < height and 0 <= x + dx < width and region.free[y + dy, x + dx]:
            return int((y + dy) * width + x + dx)
    return flat
