"""EMC-Click's first clicks: one deep inside each object, and no others (docs/PAPERS.md, EMC-Click: training)."""

from collections.abc import Sequence

import numpy as np

from pipeline.clicks.oracle import squared_distances

DEPTH = 1.7
"""A first click lies more than the object's depth divided by this inside its border."""


def first_clicks(object_masks: Sequence[np.ndarray], rng: np.random.Generator) -> tuple[list[int], list[int]]:
    """Draw a positive click in each of some masks, bool (h, w), as row-major pixel numbers; no negative clicks."""
    drawn: list[int] = []
    for mask in object_masks:
        depths = squared_distances(mask)
        deep = np.flatnonzero(mask & (DEPTH**2 * depths > depths.max()))
        if len(deep):
            drawn.append(int(rng.choice(deep)))
    return drawn, []
