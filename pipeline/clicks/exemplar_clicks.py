"""Clicks that could have made a finished object, for exemplars: DIOS's strategies and distances.

docs/PAPERS.md, iCMFormer++: COCO-MOIS.
"""

import cv2
import numpy as np

from models.interaction import Click, Clicks
from pipeline.clicks.dios_random import BORDER_MARGIN, SPACING
from pipeline.clicks.oracle import squared_distances
from pipeline.clicks.spaced import bounds

MAX_CLICKS = 20


def exemplar_clicks(
    mask: np.ndarray, others: np.ndarray, rng: np.random.Generator, ignore_mask: np.ndarray | None = None
) -> Clicks:
    """Draw 1 to 20 clicks on and around an object; `others`: the other objects of its category; masks bool (h, w).

    The first click is positive, at the object's centre; further positive ones lie 20 px from its border and 40 px
    apart. Negative clicks follow a strategy drawn for each: in the band around the object, on other objects, or where
    the band is farthest from all negative clicks. Distances are halved until a pixel is left; an area whose pixels are
    all clicked gets no more. Ours: the strategies are equally likely, and the band is 40 px wide.
    """
    num = int(rng.integers(1, MAX_CLICKS + 1))
    num_positive = 1 + int(rng.binomial(num - 1, 0.5))
    if not mask.any():
        return Clicks.none()
    countable = np.ones(mask.shape, bool) if ignore_mask is None else ~ignore_mask
    inside = _Area.within(mask, countable)
    clicks = [inside.click(int(inside.depths.argmax()), positive=True)] if inside else []
    while clicks and len(clicks) < num_positive:
        if (place := inside.far_from(clicks, rng)) is None:
            break
        clicks.append(inside.click(place, positive=True))
    return Clicks.of(clicks + _negative(mask, others & ~mask & countable, countable, num - num_positive, rng))


def _negative(
    mask: np.ndarray, others: np.ndarray, countable: np.ndarray, num: int, rng: np.random.Generator
) -> list[Click]:
    if num == 0:
        return []
    band = _Area.around(mask, countable)
    on_others: _Area | None = None
    clicks: list[Click] = []
    for strategy in rng.integers(3, size=num):
        area = band
        if strategy == 1:
            on_others = on_others or _Area.within(others, countable)
            area = on_others or band
        place = band.farthest(clicks) if strategy == 2 and clicks else area.far_from(clicks, rng)
        if place is not None:
            clicks.append(area.click(place, positive=False))
    return clicks


class _Area:
    """Pixels that may be clicked, in row-major order, with their squared distances from a border: `depths`.

    A place is an index into them. All calls must pass the same list of clicks, which may only grow.
    """

    def __init__(self, part: np.ndarray, depths: np.ndarray, box: tuple[slice, slice]) -> None:
        """Take the pixels of `part`, a bool box of the image; `depths` int64 of the same shape."""
        rows, columns = np.nonzero(part)
        self.rows, self.columns = rows + box[0].start, columns + box[1].start
        self.depths = depths[part]
        self.gaps = np.full(len(rows), np.iinfo(np.int64).max)
        self.num_measured = 0

    def __bool__(self) -> bool:
        return len(self.rows) > 0

    @classmethod
    def within(cls, mask: np.ndarray, countable: np.ndarray) -> "_Area":
        """Return the countable pixels of a mask."""
        box = bounds(mask, 0) if mask.any() else (slice(0, 1), slice(0, 1))
        return cls((mask & countable)[box], squared_distances(mask[box]), box)

    @classmethod
    def around(cls, mask: np.ndarray, countable: np.ndarray) -> "_Area":
        """Return the countable pixels outside a mask that is not empty, at most SPACING from it."""
        box = bounds(mask, int(SPACING))
        distances = cv2.distanceTransform((~mask[box]).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        depths = np.rint(distances.astype(np.float64) ** 2).astype(np.int64)
        return cls((depths > 0) & (depths <= SPACING**2) & countable[box], depths, box)

    def click(self, place: int, *, positive: bool) -> Click:
        return Click(y=int(self.rows[place]), x=int(self.columns[place]), positive=positive)

    def far_from(self, clicks: list[Click], rng: np.random.Generator) -> int | None:
        """Draw a place at DIOS's distances, halved until there is one; None if all places are clicked."""
        gaps = self._measured(clicks)
        part, allowed = 1.0, np.zeros(0, int)
        while gaps.any() and not len(allowed):
            near = (self.depths >= (part * BORDER_MARGIN) ** 2) & (gaps >= (part * SPACING) ** 2)
            allowed = np.flatnonzero(near & (gaps > 0))
            part /= 2
        return int(rng.choice(allowed)) if len(allowed) else None

    def farthest(self, clicks: list[Click]) -> int | None:
        """Return the place farthest from all clicks, at DIOS's distance from the border, halved until there is one."""
        gaps = self._measured(clicks)
        if not gaps.any():
            return None
        deepest, margin = int(self.depths[gaps > 0].max()), BORDER_MARGIN
        while deepest < margin**2:
            margin /= 2
        return int(np.where(self.depths >= margin**2, gaps, 0).argmax())

    def _measured(self, clicks: list[Click]) -> np.ndarray:
        """Return the squared distance of each place to the nearest click, int64; 0 for clicked places."""
        for click in clicks[self.num_measured :]:
            away = (self.rows - int(click.y)) ** 2 + (self.columns - int(click.x)) ** 2
            self.gaps = np.minimum(self.gaps, away)
        self.num_measured = len(clicks)
        return self.gaps
