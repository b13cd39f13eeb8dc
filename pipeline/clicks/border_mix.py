"""iCMFormer's click strategy: the centre of the largest error region, or a random point near its border.

The paper names the two kinds; that both are equally likely, and what counts as near, is ours (docs/PAPERS.md,
iCMFormer).
"""

import numpy as np

from models.interaction import Click, Clicks
from pipeline.clicks.centre import centre_click
from pipeline.clicks.oracle import squared_distances
from pipeline.clicks.regions import largest_regions

BORDER_PROB = 0.5
NEAR = 0.25
"""A pixel is near the border if its depth is at most this fraction of the region's largest, or if it is on the
border."""


def border_mix_click(
    object_mask: np.ndarray, ignore_mask: np.ndarray, mask: np.ndarray, clicks: Clicks, rng: np.random.Generator
) -> Click:
    """Click the centre of the largest error region or, half the time, a random pixel near its border.

    If no error is left, click the object's centre.
    """
    regions = largest_regions(object_mask, ignore_mask, mask, clicks, 1)
    if not regions:
        return centre_click(object_mask, ignore_mask)
    region = regions[0]
    distances = squared_distances(region.pixels)
    near = np.flatnonzero(region.free & (distances <= max(1.0, NEAR**2 * distances.max())))
    if rng.random() < BORDER_PROB and len(near):
        return region.click(int(rng.choice(near)))
    return region.click(int(np.where(region.free, distances, -1).argmax()))
