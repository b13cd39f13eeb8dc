"""FocusCut's crop around an object, and EMC-Click's rules for targets."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InputError
from pipeline.data.augment import AugmentConfig, augment, object_areas, without_small_pieces
from pipeline.data.config import DataConfig
from pipeline.data.object_crop import object_square, square_crop
from tests.pipeline.fakes import fake_sample

FOCUS = AugmentConfig(recipe="focuscut")


@given(st.integers(0, 2**31), st.integers(12, 60), st.integers(12, 60))
def test_squares_show_their_object(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), bool)
    top, left = rng.integers(0, height - 4), rng.integers(0, width - 4)
    mask[top : top + rng.integers(2, 30), left : left + rng.integers(2, 30)] = True
    y, x, side = object_square(mask, rng)
    (cut,) = square_crop([mask.astype(np.uint8)], (y, x, side), (side, side))
    assert cut.any()
    short = min(height, width)
    assert side >= short // 2
    if side == short:  # the large square, or a box of exactly its size
        return
    assert cut.sum() == mask.sum(), "the square about the box shows all of it"
    if side <= short:
        assert y >= 0
        assert x >= 0
        assert max(y + side - height, x + side - width) <= 0


def test_one_object_is_kept_and_each_may_be_chosen() -> None:
    sample, rng = fake_sample("a", 3), np.random.default_rng(0)
    seen = set()
    for _ in range(40):
        drawn = augment(sample, FOCUS, (48, 48), rng)
        (ref,) = drawn.objects
        assert drawn.image.shape == (48, 48, 3)
        assert drawn.object_mask(ref).any()
        seen.add(ref.id)
    assert seen == {ref.id for ref in sample.objects}


def test_pixels_and_masks_stay_together() -> None:
    sample = fake_sample("a", 3)
    marked = replace(sample, image=np.repeat(sample.object_mask(sample.objects[1])[..., None] * np.uint8(255), 3, 2))
    rng, found = np.random.default_rng(1), 0
    for _ in range(30):
        drawn = augment(marked, FOCUS, (64, 64), rng)
        if drawn.objects[0].id == sample.objects[1].id:
            found += 1
            assert (drawn.object_mask(drawn.objects[0]) == (drawn.image[..., 0] > 127)).mean() > 0.94
    assert found > 3


def test_small_pieces_are_removed() -> None:
    sample = fake_sample("a", 3)
    ref = sample.objects[1]
    layers = sample.instance_masks.copy()
    layers[ref.layer][:2, :2] = ref.value
    areas = object_areas(replace(sample, instance_masks=layers))
    left = object_areas(without_small_pieces(replace(sample, instance_masks=layers), 5))
    assert areas[1] - left[1] == 4
    assert np.array_equal(np.delete(areas, 1), np.delete(left, 1))


def test_objects_that_fill_the_crop_are_no_targets() -> None:
    sample, rng = fake_sample("a", 3, (60, 80)), np.random.default_rng(0)
    areas = object_areas(sample) / (60 * 80)
    drawn = augment(
        sample, AugmentConfig(recipe="coco_lvis_val"), (60, 80), rng, max_object_share=float(areas.max()) - 1e-6
    )
    assert {ref.id for ref in drawn.objects} == {
        ref.id for ref, area in zip(sample.objects, areas, strict=True) if area < areas.max()
    }


@pytest.mark.parametrize("fields", [{"min_piece_area": -1}, {"max_object_share": 0.0}, {"max_object_share": 1.5}])
def test_invalid_settings_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(fields))} is"):
        DataConfig(**fields)  # pyright: ignore[reportArgumentType]
