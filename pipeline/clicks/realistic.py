"""A robot user closer to people: it mostly clicks the largest error, near its middle but rarely exactly there."""

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
    """Click behaviour of a simulated person; the values are ours and not measured on people."""

    called = "protocol.realistic"

    power: Annotated[float, AtLeast(0), AtMost(100)] = 2.0
    """A pixel's probability is proportional to its distance from the region's border to this power; 0: uniform."""
    jitter: Annotated[float, AtLeast(0), AtMost(10)] = 0.05
    """Standard deviation of the click's displacement, as a fraction of the square root of the region's area."""
    second_region: Fraction = 0.1
    """Probability of choosing the second-largest region, if there is one."""


DEFAULTS = Realistic()


def realistic_click(
    object_mask: np.ndarray,
    ignore_mask: np.ndarray,
    mask: np.ndarray,
    clicks: Clicks,
    rng: np.random.Generator,
    config: Realistic = DEFAULTS,
) -> Click:
    """Click a random pixel, preferably in the middle, of the largest error region, or sometimes of the second largest.

    If no error is left, click the object's centre.
    """
    regions = largest_regions(object_mask, ignore_mask, mask, clicks, 2)
    if not regions:
        return centre_click(object_mask, ignore_mask)
    second = rng.random() < config.second_region
    region = regions[1] if second and len(regions) > 1 else regions[0]
    flat = np.flatnonzero(region.free)
    depths = np.sqrt(squared_distances(region.pixels).ravel()[flat])
    odds = (depths / depths.max()) ** config.power  # the deepest has odds 1, so that no power makes all of them vanish
    return region.click(_missed(region, int(rng.choice(flat, p=odds / odds.sum())), rng, config.jitter))


def _missed(region: Region, flat: int, rng: np.random.Generator, jitter: float) -> int:
    """Move a pixel by a normal distance to another free pixel of the region; keep it if none is found."""
    height, width = region.free.shape
    y, x = divmod(flat, width)
    sigma = jitter * float(np.sqrt(np.count_nonzero(region.pixels)))
    for dy, dx in np.rint(rng.normal(0.0, sigma, (TRIES, 2))).astype(int):
        if 0 <= y + dy < height and 0 <= x + dx < width and region.free[y + dy, x + dx]:
            return int((y + dy) * width + x + dx)
    return flat
