"""FocusCut's robot user: the oracle, but with a click on the object's centre if nothing is wrong.

docs/PAPERS.md, FocusCut: robot user and metrics. The public code compares float64 distances of an exact transform,
which have the same order as the oracle's exact squared integers.
"""

import numpy as np

from models.interaction import Click, Clicks
from pipeline.clicks.centre import centre_click
from pipeline.clicks.oracle import oracle_click


def focuscut_click(
    object_mask: np.ndarray,
    ignore_mask: np.ndarray,
    mask: np.ndarray,
    clicks: Clicks,
    rng: np.random.Generator | None = None,
) -> Click:
    """Click like the oracle; if no error is left, or all its pixels are clicked, click the object's centre again."""
    left = (object_mask ^ mask) & ~ignore_mask
    done = clicks.yx.astype(int)
    left[done[:, 0], done[:, 1]] = False
    if not left.any():
        return centre_click(object_mask, ignore_mask)
    return oracle_click(object_mask, ignore_mask, mask, clicks)
