"""Task: correct a given mask of each object, as in DAVIS-585 (Chen et al., FocalClick).

The initial masks there simulate the defects of networks and have an IoU of 0.75..0.85. Ours have the same IoU; they are
made from the object's mask by cutting off and adding simple shapes.
"""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from models.predictor import open_state
from pipeline.data.sample import Sample
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.method import Method
from pipeline.evaluation.tasks.game import Game, countable, played, rng_of

AIM = 0.76, 0.84
"""Range of the IoU aimed at; the margin to 0.75..0.85 allows for rounding to whole pixels."""


def from_mask(
    sample: Sample, object_ids: tuple[str, ...], method: Method, config: EvaluationConfig
) -> Iterator[Game | str]:
    """Yield a session from its spoiled mask for each object of at least `config.min_area` pixels that count."""
    refs = {ref.id: ref for ref in sample.objects}
    for object_id in object_ids:
        if object_id not in refs:
            continue
        mask = countable(sample, refs[object_id], config)
        if isinstance(mask, str):
            yield mask
            continue
        spoiled = spoiled_mask(mask, rng_of(config.seed, sample.id, object_id, "mask"), sample.ignore_mask)
        state = open_state(sample.image, spoiled, method.device)
        rng = rng_of(config.seed, sample.id, object_id)
        steps = played(state, mask, sample.ignore_mask, method, config, rng)
        yield Game(object=object_id, category=refs[object_id].category, steps=steps)


def spoiled_mask(mask: np.ndarray, rng: np.random.Generator, ignore_mask: np.ndarray | None = None) -> np.ndarray:
    """Cut a part off a mask, bool (h, w) and not empty, and add a wrong part, so that its IoU is in 0.75..0.85.

    Each part is a union of disks, a union of rectangles, or a band along the border, and never on ignored pixels. The
    share of the error that is cut is random; if there is no room to add enough, more is cut. Masks of a few pixels come
    as close as whole pixels allow, with at least one wrong pixel.
    """
    area = int(mask.sum())
    free = ~mask if ignore_mask is None else ~(mask | ignore_mask)
    aim, share = rng.uniform(*AIM), rng.uniform(0.2, 0.8)
    depths, distances = (np.asarray(ndimage.distance_transform_edt(part)) for part in (mask, ~mask))
    near = free & (distances <= 1 + 0.5 * np.sqrt(area))
    cut_first = _order(mask, mask, depths, rng)
    add_first = _order(free, near if near.any() else free, distances, rng)
    num_cut = round(share * area * (1 - aim))
    num_added = min(max(1, round((area - num_cut) / aim - area)), len(add_first))
    num_cut = max(0, round(area - aim * (area + num_added)))
    spoiled = mask.copy()
    spoiled.ravel()[cut_first[:num_cut]] = False
    spoiled.ravel()[add_first[:num_added]] = True
    return spoiled


def _order(area: np.ndarray, centres: np.ndarray, to_border: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an area's pixels (row-major indices) in the order in which a growing shape covers them."""
    flat = np.flatnonzero(area)
    kind = int(rng.integers(3))
    if kind == 0 or not len(flat):
        return flat[np.argsort(to_border.ravel()[flat], kind="stable")]
    rows, columns = np.divmod(flat, area.shape[1])
    taken = np.full(len(flat), np.inf)
    for centre in rng.choice(np.flatnonzero(centres), int(rng.integers(1, 4))):
        y, x = divmod(int(centre), area.shape[1])
        stretch = np.exp(rng.uniform(-0.7, 0.7))
        dy, dx = abs(rows - y) * stretch, abs(columns - x) / stretch
        taken = np.minimum(taken, np.hypot(dy, dx) if kind == 1 else np.maximum(dy, dx))
    return flat[np.argsort(taken, kind="stable")]
