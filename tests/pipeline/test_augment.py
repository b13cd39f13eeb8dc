import os
import sys
from dataclasses import replace

import numpy as np
import pytest

from models.errors import InputError
from pipeline.data.augment import AUGMENT_RECIPES, AugmentConfig, augment, keep_objects, object_areas, shaded
from pipeline.data.sample import Sample, pack_objects
from tests.pipeline.fakes import fake_sample

VAL = AugmentConfig(recipe="coco_lvis_val")
TRAIN = AugmentConfig(recipe="coco_lvis")


def corner_sample(hw: tuple[int, int] = (100, 100), side: int = 8) -> Sample:
    mask = np.zeros(hw, bool)
    mask[:side, :side] = True
    return pack_objects("corner", np.full((*hw, 3), 90, np.uint8), [("o", "", mask)])


def equal(a: Sample, b: Sample) -> bool:
    arrays = all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("image", "instance_masks", "ignore_mask"))
    return arrays and a.objects == b.objects


@pytest.mark.parametrize("recipe", sorted(AUGMENT_RECIPES))
def test_a_seed_fixes_everything_and_shapes_fit(recipe: str) -> None:
    sample, config = fake_sample("s", 1), AugmentConfig(recipe=recipe)

    def once(seed: int) -> Sample:
        return augment(sample, config, (48, 72), np.random.default_rng(seed), keep_background_prob=0.5)

    results = [once(seed) for seed in range(12)]
    for seed, result in enumerate(results):
        assert result.image.shape == (48, 72, 3)
        assert result.image.dtype == np.uint8
        assert result.instance_masks.shape[1:] == result.ignore_mask.shape == (48, 72)
        assert (result.instance_masks.dtype, result.ignore_mask.dtype) == (np.uint16, np.bool_)
        assert (object_areas(result) > 0).all()
        assert equal(result, once(seed))
    assert len({result.image.tobytes() for result in results}) > 8


@pytest.mark.parametrize("recipe", ["coco_lvis", "coco_lvis_val", "plain", "sbd", "sbd_val"])
@pytest.mark.parametrize("hw", [(30, 40), (60, 80), (300, 400), (400, 300)])
def test_with_fit_an_image_of_any_size_fills_the_crop_and_is_whole(recipe: str, hw: tuple[int, int]) -> None:
    image = np.full((*hw, 3), 120, np.uint8)
    sample = pack_objects("s", image, [("o", "", np.ones(hw, bool))])
    for seed in range(8):
        out = augment(
            sample, AugmentConfig(recipe=recipe, scale=(1, 1), fit=True), (64, 64), np.random.default_rng(seed)
        )
        rows, columns = (np.flatnonzero(out.object_mask(out.objects[0]).any(axis)) for axis in (1, 0))
        assert max(len(rows), len(columns)) >= 62  # a turn by 3 degrees or a shift may cut a pixel or two
        assert 44 <= min(len(rows), len(columns)) <= 52
    half = augment(sample, AugmentConfig(scale=(0.5, 0.5), fit=True), (64, 64), np.random.default_rng(0))
    assert half.object_mask(half.objects[0]).sum() == 32 * 24


@pytest.mark.parametrize("recipe", ["coco_lvis", "plain", "sbd", "sbd_val"])
def test_masks_move_with_the_image(recipe: str) -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:40, 25:70] = True
    ignore = np.zeros((60, 80), bool)
    ignore[45:] = True
    image = np.zeros((60, 80, 3), np.uint8)
    image[mask], image[ignore, 0] = 200, 160
    sample = pack_objects("s", image, [("o", "", mask)], ignore)
    for seed in range(30):
        out = augment(sample, AugmentConfig(recipe=recipe), (64, 64), np.random.default_rng(seed))
        green = out.image[..., 1] > 85  # the darkest an object can get is 96, the lightest background is 74
        red = out.image[..., 0].astype(int) - out.image[..., 1] > 25
        found = out.object_mask(out.objects[0])
        assert (green & found).sum() / (green | found).sum() > 0.85
        if (out.ignore_mask & ~found).sum() > 50:
            assert red[out.ignore_mask & ~found].mean() > 0.85


def test_augmentation_steps_draw_independently() -> None:
    """With one seed for every step, the flip would be tied to the colour: flipped images would always be recoloured."""
    image = np.zeros((40, 40, 3), np.uint8)
    image[:, :20], image[:, 20:] = 60, 180
    sample = pack_objects("s", image, [("o", "", np.ones((40, 40), bool))])
    seen = set()
    for seed in range(150):
        out = augment(sample, TRAIN, (20, 200), np.random.default_rng(seed)).image
        columns = np.flatnonzero(out.any(axis=(0, 2)))
        left, right = out[10, columns[2]], out[10, columns[-3]]
        flipped = bool(left.sum() > right.sum())
        seen.add((flipped, {tuple(left), tuple(right)} == {(60,) * 3, (180,) * 3}))
    assert seen == {(False, False), (False, True), (True, False), (True, True)}


def test_padding_is_black_background_and_not_ignored() -> None:
    sample = pack_objects("s", np.full((10, 10, 3), 77, np.uint8), [("o", "", np.ones((10, 10), bool))])
    out = augment(sample, VAL, (30, 20), np.random.default_rng(0))
    inside = out.object_mask(out.objects[0])
    assert inside.sum() == 100
    assert not out.image[~inside].any()
    assert not out.ignore_mask.any()


def test_crops_without_objects_are_redrawn_except_some() -> None:
    sample, rng = corner_sample(), np.random.default_rng(0)
    patient = replace(VAL, max_redraws=500)
    assert all(augment(sample, patient, (40, 40), rng).objects for _ in range(20))
    assert sum(not augment(sample, VAL, (40, 40), rng, keep_background_prob=1).objects for _ in range(40)) > 25
    hasty = [augment(sample, replace(VAL, max_redraws=0), (40, 40), rng) for _ in range(40)]
    empty = [out for out in hasty if not out.objects]
    assert len(empty) > 25
    assert not any(out.instance_masks.any() for out in empty)


def test_small_objects_are_removed_after_the_redraw() -> None:
    sample = fake_sample("s", 1)
    areas = dict(zip([o.id for o in sample.objects], object_areas(sample), strict=True))
    limit = sorted(areas.values())[1]
    out = augment(sample, VAL, (60, 80), np.random.default_rng(0), min_object_area=int(limit))
    assert [o.id for o in out.objects] == [name for name, area in areas.items() if area >= limit]
    assert object_areas(out).tolist() == [area for area in areas.values() if area >= limit]
    assert (out.instance_masks > 0).sum() == sum(object_areas(out))
    none_left = augment(sample, VAL, (60, 80), np.random.default_rng(0), min_object_area=10**6)
    assert not none_left.objects
    assert not none_left.instance_masks.any()


def test_areas_and_keeping_agree_with_plain_masks() -> None:
    sample = fake_sample("s", 4)
    assert sample.instance_masks.shape[0] == 2
    assert object_areas(sample).tolist() == [int(sample.object_mask(o).sum()) for o in sample.objects]
    kept = keep_objects(sample, np.array([True, False, True]))
    for ref in kept.objects:
        assert np.array_equal(kept.object_mask(ref), sample.object_mask(ref))
    assert not (kept.instance_masks[sample.objects[1].layer] == sample.objects[1].value).any()
    assert sample.object_mask(sample.objects[1]).any()


def test_wrong_settings_say_what_is_wrong() -> None:
    with pytest.raises(InputError, match="did you mean 'coco_lvis'"):
        AugmentConfig(recipe="coco_lviz")
    with pytest.raises(InputError, match="max_redraws is -1"):
        AugmentConfig(max_redraws=-1)


def test_no_update_check_is_made() -> None:
    augment(fake_sample("s", 1), TRAIN, (32, 32), np.random.default_rng(0))
    assert "albumentations" in sys.modules
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"


def test_shading_changes_whole_channels_or_nothing() -> None:
    image = np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (2, 1, 3))
    kept, spread = 0, []
    for seed in range(200):
        shades = shaded(image, np.random.default_rng(seed))
        assert shades.dtype == np.uint8
        assert (np.diff(shades[0].astype(int), axis=0) >= 0).all()
        kept += np.array_equal(shades, image)
        spread.append(shades.mean() - image.mean())
    assert 4 <= kept <= 25
    assert min(spread) < -40
    assert max(spread) > 60
