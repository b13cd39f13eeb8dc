"""The smallest area of a target, computed from the data, and data without any targets."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import pytest

from jobs.presets import PRESETS
from models.errors import InputError
from pipeline.data.augment import AUGMENT_RECIPES, AugmentConfig, whole_areas
from pipeline.data.config import AUTO, DataConfig
from pipeline.data.local import stream
from pipeline.data.sample import BadItem, Item, Sample, pack_objects
from pipeline.data.targets import STRETCH, check_targets, floor_of, most_empty, settled
from tests.jobs.test_presets import PUBLISHED

OWN = ("cpu_xtiny", "finetune")


@dataclass(frozen=True)
class Squares:
    """Images of noise with three squares each, whose sides cycle through `sides`; `opened` records loaded images."""

    sides: tuple[int, ...]
    num_items: int = 40
    hw: tuple[int, int] = (240, 320)
    broken: bool = False
    opened: list[str] = field(default_factory=list, compare=False)

    def items(self) -> Sequence[Item]:
        return [Item(id=f"{n:03d}", object_ids=("a", "b", "c"), payload={"n": n}) for n in range(self.num_items)]

    def load(self, item: Item) -> Sample:
        self.opened.append(item.id)
        if self.broken:
            raise BadItem(item.id, "broken")
        n = item.payload["n"]
        rng = np.random.default_rng(n)
        side = self.sides[n % len(self.sides)]
        masks = []
        for k, name in enumerate("abc"):
            mask = np.zeros(self.hw, bool)
            y, x = rng.integers(0, self.hw[0] - side), k * self.hw[1] // 3 + rng.integers(0, self.hw[1] // 3 - side)
            mask[y : y + side, x : x + side] = True
            masks.append((name, "", mask))
        return pack_objects(item.id, rng.integers(0, 256, (*self.hw, 3), dtype=np.uint8), masks)


def data_of(preset: str, **changes: Any) -> DataConfig:
    return replace(PRESETS[preset]().data, crop_hw=(224, 224), window_size=8, **changes)


def share_empty(reader: Squares, data: DataConfig, num: int = 80) -> float:
    return float(np.mean([not row["object_mask"].any() for row in islice(stream(reader, data), num)]))


def floor(reader: Squares, data: DataConfig) -> int:
    return floor_of(reader, reader.items(), data).area


@pytest.mark.parametrize("preset", OWN)
def test_small_objects_are_targets_of_presets_for_own_data(preset: str) -> None:
    # At the scale of cpu_xtiny, .35 to .8, seven pixels become fewer than twenty in area.
    small = Squares(sides=(7,) if preset == "finetune" else (14,))
    data = data_of(preset)
    assert data.min_object_area == AUTO
    assert share_empty(small, data) <= most_empty(data.keep_background_prob)
    assert share_empty(small, replace(data, min_object_area=data.max_auto_area)) == 1


@pytest.mark.parametrize("sides", [(7,), (20, 24, 28), (12, 90), (60,)])
@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 0.5), (0.75, 1.4)])
def test_the_floor_is_the_tenth_percentile_at_the_training_scale(
    sides: tuple[int, ...], scale: tuple[float, float]
) -> None:
    reader = Squares(sides=sides)
    data = data_of("finetune", augment=AugmentConfig(scale=scale))
    areas = np.square(np.repeat([sides[n % len(sides)] for n in range(40)], 3)).astype(float)
    scales = np.random.default_rng(0).uniform(*scale, 100_000)
    wanted = np.percentile(np.random.default_rng(1).choice(areas, 100_000) * scales**2, 10)
    assert floor(reader, data) == pytest.approx(np.clip(wanted, 20, 1000), rel=0.0 if scale[0] == scale[1] else 0.15)


def test_the_floor_is_bounded_and_follows_from_the_seed() -> None:
    small, large = Squares(sides=(4,)), Squares(sides=(70,))
    data = data_of("finetune")
    assert floor(small, data) == 20
    assert floor(large, data) == 1000
    assert floor(large, replace(data, max_auto_area=300)) == 300
    many = Squares(sides=tuple(range(8, 40)), num_items=500)
    assert floor(many, data) == floor(many, data)
    assert len(set(many.opened)) <= 64
    seen = set(many.opened)
    many.opened.clear()
    floor(many, replace(data, seed=1))
    assert set(many.opened) != seen


def test_without_readable_images_the_floor_is_its_bound() -> None:
    assert floor(Squares(sides=(9,), broken=True), data_of("cpu_xtiny")) == 300


def test_areas_of_images_that_fit_the_crop_do_not_depend_on_their_size() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((80, 120), bool)
    mask[20:60, 30:90] = True
    for larger in (1, 2, 5):
        big = mask.repeat(larger, 0).repeat(larger, 1)
        sample = pack_objects("s", np.zeros((*big.shape, 3), np.uint8), [("o", "", big)])
        areas = whole_areas(sample, AugmentConfig(scale=(1, 1), fit=True), (60, 60), rng)
        assert areas == pytest.approx(20 * 30)


@pytest.mark.parametrize("recipe", AUGMENT_RECIPES)
def test_whole_areas_equal_those_after_augmentation(recipe: str) -> None:
    reader = Squares(sides=(40,))
    sample = reader.load(reader.items()[0])
    rng = np.random.default_rng(0)
    found = np.concatenate([whole_areas(sample, AugmentConfig(recipe=recipe), (120, 120), rng) for _ in range(60)])
    assert len(found) == 180
    if recipe == "focuscut":  # squares of at least half the short side, resized to the crop
        assert 40**2 * (120 / 240) ** 2 <= found.min() <= found.max() <= 40**2
    else:
        low, high = AUGMENT_RECIPES[recipe].scale or (1, 1)
        assert 1600 * low**2 <= found.min() <= found.max() <= 1600 * high**2


def test_resolved_configs_do_not_keep_their_bound() -> None:
    reader = Squares(sides=(20,))
    data = data_of("cpu_xtiny")
    known = settled(data, reader, reader.items())
    assert isinstance(known.min_object_area, int)
    assert known == replace(data, min_object_area=known.floor, max_auto_area=DataConfig().max_auto_area)
    explicit = replace(data, min_object_area=123)
    assert settled(explicit, reader, reader.items()) is explicit


@pytest.mark.parametrize("preset", sorted(PUBLISHED))
def test_published_runs_keep_their_floors(preset: str) -> None:
    assert PRESETS[preset]().data.min_object_area in (20, 80, 1000)


@pytest.mark.networks
def test_data_without_targets_is_refused() -> None:
    reader = Squares(sides=(7,))
    data = data_of("finetune", min_object_area=1000, max_auto_area=1000)
    with pytest.raises(
        InputError, match=r"none of the first 64 samples shows an object: .* have \d+ to \d+ pixels"
    ) as e:
        check_targets(reader, reader.items(), data)
    assert "--data.min-object-area is 1000" in str(e.value)
    with pytest.raises(InputError, match="none is left in crops of 224 x 224"):
        check_targets(reader, reader.items(), replace(data, augment=AugmentConfig(scale=(0.001, 0.001))))


def test_the_search_for_an_object_ends_with_the_first() -> None:
    reader = Squares(sides=(60,))
    check_targets(reader, reader.items(), data_of("finetune", min_object_area=1000))
    assert len(reader.opened) == 1
    # One image in forty has a large object, which is found however late it comes.
    mixed = Squares(sides=(7,) * 39 + (60,))
    check_targets(mixed, mixed.items(), data_of("finetune", min_object_area=1000))


def test_unusable_images_end_the_check_without_an_error() -> None:
    reader = Squares(sides=(7,), broken=True, num_items=3)
    check_targets(reader, reader.items(), data_of("finetune", min_object_area=1000))
    assert len(reader.opened) == 4 * STRETCH


@pytest.mark.parametrize(("keep", "limit"), [(0.0, 0.2), (0.05, 0.2), (0.1, 0.3), (1.0, 3.0)])
def test_the_share_of_empty_samples_that_warns(keep: float, limit: float) -> None:
    assert most_empty(keep) == pytest.approx(limit)
