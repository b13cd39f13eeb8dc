"""Spoiled masks, to be corrected, have the IoU of DAVIS-585's."""

import numpy as np
import pytest

from pipeline.evaluation.tasks.from_mask import spoiled_mask
from pipeline.metrics import iou


def blob(rng: np.random.Generator) -> np.ndarray:
    """Draw a few overlapping ellipses anywhere in the image, perhaps over its edge."""
    y, x = np.mgrid[:90, :110]
    mask = np.zeros((90, 110), bool)
    for _ in range(int(rng.integers(1, 4))):
        centre, radii = rng.uniform(0, 1, 2) * (90, 110), rng.uniform(8, 30, 2)
        mask |= ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 < 1
    return mask


@pytest.mark.parametrize("seed", range(60))
def test_a_spoiled_mask_has_the_iou_of_davis_585(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask, nothing = blob(rng), np.zeros((90, 110), bool)
    assert mask.sum() >= 100
    spoiled = spoiled_mask(mask, np.random.default_rng(seed))
    assert np.array_equal(spoiled, spoiled_mask(mask, np.random.default_rng(seed)))
    assert not np.array_equal(spoiled, spoiled_mask(mask, np.random.default_rng(seed + 1)))
    assert (mask & ~spoiled).any()
    assert (spoiled & ~mask).any()
    assert 0.75 <= iou(spoiled, mask, nothing) <= 0.85
    ignore = ~mask & (rng.random(mask.shape) < 0.9)
    assert 0.75 <= iou(spoiled := spoiled_mask(mask, rng, ignore), mask, ignore) <= 0.85
    assert not (spoiled & ignore).any()


def test_tiny_and_full_masks_can_be_spoiled() -> None:
    everything = np.ones((20, 30), bool)
    spoiled = spoiled_mask(everything, np.random.default_rng(0))
    assert 0.75 <= spoiled.mean() <= 0.85
    for area in range(1, 30):
        few = np.zeros((20, 30), bool)
        few.ravel()[40 : 40 + area] = True
        for seed in range(5):
            spoiled = spoiled_mask(few, np.random.default_rng(seed))
            assert spoiled.any()
            assert 0.5 <= iou(spoiled, few, ~everything) < 1
