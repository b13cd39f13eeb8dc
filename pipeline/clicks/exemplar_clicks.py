"""Clicks that might have made a finished object, for exemplars (spec 4.10): DIOS's strategies and distances."""

import numpy as np
from scipy import ndimage

from models.interaction import Click, Clicks
from pipeline.clicks.dios_random import BORDER_MARGIN, SPACING
from pipeline.clicks.oracle import squared_distances

MAX_CLICKS = 20


def exemplar_clicks(
    mask: np.ndarray, others: np.ndarray, rng: np.random.Generator, ignore_mask: np.ndarray | None = None
) -> Clicks:
    """Draw 1 to 20 clicks on and around an object; `others`: the other objects of its kind; masks bool (h, w).

    The first is positive, at the object's centre; positive ones lie 20 px from its border and 40 px apart. Negative
    ones, by a strategy drawn for each: in the band around the object, on other objects, or where the band is farthest
    from all negative clicks. Distances are halved until a pixel is left; an area whose pixels are all clicked gets no
    more. Ours: the strategies come equally often, the band is 40 px wide.
    """
    num = int(rng.integers(1, MAX_CLICKS + 1))
    num_positive = 1 + int(rng.binomial(num - 1, 0.5))
    countable = np.ones(mask.shape, bool) if ignore_mask is None else ~ignore_mask
    inside, depths = mask & countable, np.sqrt(squared_distances(mask))
    clicks: list[Click] = []
    centre = np.where(inside, depths, 0)
    if centre.max() > 0:
        clicks.append(_click(int(centre.argmax()), mask.shape, positive=True))
    while clicks and len(clicks) < num_positive:
        if (pixel := _far_from(clicks, inside, depths, rng)) is None:
            break
        clicks.append(_click(pixel, mask.shape, positive=True))
    return Clicks.of(clicks + _negative(mask, others & ~mask & countable, countable, num - num_positive, rng))


def _negative(
    mask: np.ndarray, others: np.ndarray, countable: np.ndarray, num: int, rng: np.random.Generator
) -> list[Click]:
    if num == 0 or not mask.any():
        return []
    distances = np.asarray(ndimage.distance_transform_edt(~mask))
    band = (distances > 0) & (distances <= SPACING) & countable
    depths = np.sqrt(squared_distances(others))
    clicks: list[Click] = []
    for strategy in rng.integers(3, size=num):
        if strategy == 2 and clicks:
            pixel = _farthest(clicks, band, distances)
        elif strategy == 1 and others.any():
            pixel = _far_from(clicks, others, depths, rng)
        else:
            pixel = _far_from(clicks, band, distances, rng)
        if pixel is not None:
            clicks.append(_click(pixel, mask.shape, positive=False))
    return clicks


def _far_from(clicks: list[Click], area: np.ndarray, margins: np.ndarray, rng: np.random.Generator) -> int | None:
    """Draw a pixel of the area by DIOS's distances, as much of them as leaves one; None if all are clicked."""
    flat, gaps = _unclicked(clicks, area)
    part, allowed = 1.0, flat[:0]
    while len(flat) and not len(allowed):
        allowed = flat[(margins.ravel()[flat] >= part * BORDER_MARGIN) & (gaps >= part * SPACING)]
        part /= 2
    return int(rng.choice(allowed)) if len(allowed) else None


def _farthest(clicks: list[Click], area: np.ndarray, margins: np.ndarray) -> int | None:
    """Find the area's pixel that is farthest from all clicks, and as far from the object as leaves one."""
    flat, gaps = _unclicked(clicks, area)
    if not len(flat):
        return None
    depths, margin = margins.ravel()[flat], BORDER_MARGIN
    while not (depths >= margin).any():
        margin /= 2
    return int(flat[np.where(depths >= margin, gaps, 0).argmax()])


def _unclicked(clicks: list[Click], area: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of the area (row-major numbers) that are not clicked, and the distance of each to the nearest click."""
    flat = np.flatnonzero(area)
    rows, columns = np.divmod(flat, area.shape[1])
    gaps = np.full(len(flat), np.inf)
    for click in clicks:
        gaps = np.minimum(gaps, np.hypot(rows - click.y, columns - click.x))
    return flat[gaps > 0], gaps[gaps > 0]


def _click(pixel: int, hw: tuple[int, ...], *, positive: bool) -> Click:
    y, x = divmod(pixel, hw[1])
    return Click(y=y, x=x, positive=positive)
