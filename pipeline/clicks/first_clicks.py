"""EMC-Click's first clicks: one deep inside each object, no others (docs/PAPERS.md, EMC-Click: training)."""

from collections.abc import Sequence

import numpy as np

from pipeline.clicks.oracle import squared_distances

DEPTH = 1.7
"""A first click lies more than the object's depth divided by this from its border."""


def first_clicks(object_masks: Sequence[np.ndarray], rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Draw a click in each of some masks, bool (h, w): row-major numbers of pixels, positive ones, and no negative."""
    drawn: list[int] = []
    for mask in object_masks:
        depths = squared_distances(mask)
        deep = np.flatnonzero(mask & (DEPTH**2 * depths > depths.max()))
        if len(deep):
            drawn.append(int(rng.choice(deep)))
    return drawn, []
