"""Random clicks as in Deep Interactive Object Selection (Xu et al., CVPR 2016), but on the largest error region.

The paper draws them on the object before training; here the same distances apply inside an error.
"""

import numpy as np
from scipy import ndimage

from models.interaction import Click, Clicks
from pipeline.clicks.centre import centre_click
from pipeline.clicks.oracle import squared_distances
from pipeline.clicks.regions import largest_regions

BORDER_MARGIN = 20.0
SPACING = 40.0


def dios_random_click(
    object_mask: np.ndarray, ignore_mask: np.ndarray, mask: np.ndarray, clicks: Clicks, rng: np.random.Generator
) -> Click:
    """Click a uniformly random pixel of the largest error region, 20 px from its border and 40 px from other clicks.

    If that leaves no pixel, both distances are halved until one is left. If no error is left, click the object's
    centre.
    """
    regions = largest_regions(object_mask, ignore_mask, mask, clicks, 1)
    if not regions:
        return centre_click(object_mask, ignore_mask)
    region = regions[0]
    flat = np.flatnonzero(region.free)
    to_border = np.sqrt(squared_distances(region.pixels).ravel()[flat])
    to_clicks = np.full(len(flat), np.inf)
    if len(clicks):
        unclicked = np.ones(mask.shape, bool)
        done = clicks.yx.astype(int)
        unclicked[done[:, 0], done[:, 1]] = False
        to_clicks = np.asarray(ndimage.distance_transform_edt(unclicked)).ravel()[flat]
    part = 1.0
    allowed = flat[:0]
    while not len(allowed):
        allowed = flat[(to_border >= part * BORDER_MARGIN) & (to_clicks >= part * SPACING)]
        part /= 2
    return region.click(int(rng.choice(allowed)))
