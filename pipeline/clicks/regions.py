"""The connected error regions of a mask, largest first, from which the random robot users choose."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from models.interaction import Click, Clicks


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """One 8-connected piece of an error of one sign; `free` marks its pixels without a click, at least one."""

    pixels: np.ndarray
    free: np.ndarray
    positive: bool

    def click(self, flat: int) -> Click:
        """Return the click on the pixel with the row-major number `flat`."""
        y, x = divmod(flat, self.pixels.shape[1])
        return Click(y=y, x=x, positive=self.positive)


def largest_regions(
    object_mask: np.ndarray, ignore_mask: np.ndarray, mask: np.ndarray, clicks: Clicks, num: int
) -> list[Region]:
    """Return the `num` largest error regions, or fewer; regions whose pixels are all clicked are left out.

    Ties: false alarms first, as in the oracle, then the row-major order of the first pixels.
    """
    unclicked = np.ones(mask.shape, bool)
    done = clicks.yx.astype(int)
    unclicked[done[:, 0], done[:, 1]] = False
    found: list[tuple[int, bool, int]] = []
    labels: dict[bool, np.ndarray] = {}
    for positive, error in ((False, ~object_mask & mask & ~ignore_mask), (True, object_mask & ~mask & ~ignore_mask)):
        labelled, count = ndimage.label(error, structure=np.ones((3, 3)))  # pyright: ignore[reportGeneralTypeIssues]
        labels[positive] = labelled
        areas = np.bincount(labelled.ravel(), minlength=count + 1)
        with_choice = np.bincount(labelled[unclicked], minlength=count + 1) > 0
        found += [(-int(areas[k]), positive, k) for k in range(1, count + 1) if with_choice[k]]
    regions = []
    for _, positive, label in sorted(found)[:num]:
        pixels = labels[positive] == label
        regions.append(Region(pixels=pixels, free=pixels & unclicked, positive=positive))
    return regions
