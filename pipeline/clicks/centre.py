"""Clicks at the exact centre of the object: the first click of many protocols."""

import numpy as np

from models.interaction import Click, Clicks
from pipeline.clicks.oracle import oracle_click, squared_distances


def centre_click(object_mask: np.ndarray, ignore_mask: np.ndarray) -> Click:
    """Click the pixel of the object that is farthest from its border, the first in row-major order among equals.

    Without an object, the click is negative at (0, 0), like the oracle's if nothing is wrong.
    """
    distances = squared_distances(object_mask & ~ignore_mask)
    y, x = np.unravel_index(int(distances.argmax()), distances.shape)
    return Click(y=int(y), x=int(x), positive=bool(distances.max() > 0))


def first_click_centre(
    object_mask: np.ndarray,
    ignore_mask: np.ndarray,
    mask: np.ndarray,
    clicks: Clicks,
    rng: np.random.Generator | None = None,
) -> Click:
    """Click the centre of the object first, whatever the mask shows; afterwards click like the oracle.

    It differs from the oracle only if a session starts from a mask: then the first click need not lie on an error.
    """
    if len(clicks) == 0 and (object_mask & ~ignore_mask).any():
        return centre_click(object_mask, ignore_mask)
    return oracle_click(object_mask, ignore_mask, mask, clicks)
