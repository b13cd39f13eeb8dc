"""The construction of COCO-MOIS: what a triplet is, and what it depends on."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import InputError
from pipeline.data.mois import MoisConfig, MoisCounts, make_triplets
from pipeline.data.readers import open_reader
from pipeline.data.sample import Sample, pack_objects
from tests.pipeline.test_readers import REAL

HW = (80, 100)
CATEGORIES = "cat", "dog", "cup", ""
DEFAULT = MoisConfig()


def scene(seed: int, categories: Sequence[str], *, shift: int = 0) -> Sample:
    """Boxes at random places, some over others; the box of number i is independent of the other categories."""
    masks = []
    for number, category in enumerate(categories):
        rng = np.random.default_rng([seed, number])
        top, left = rng.integers(0, 60), rng.integers(0, 80)
        mask = np.zeros(HW, bool)
        mask[top : top + rng.integers(2, 40), left : left + rng.integers(2, 40)] = True
        masks.append((f"{number + shift}", category, mask))
    ignore = np.zeros(HW, bool)
    ignore[:4] = True
    return pack_objects(f"image {seed}", np.zeros((*HW, 3), np.uint8), masks, ignore)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 500), st.lists(st.sampled_from(CATEGORIES), max_size=9), st.integers(0, 3))
def test_a_triplet_is_all_objects_of_a_category_and_one_exemplar(seed: int, categories: list[str], draw: int) -> None:
    sample, config = scene(seed, categories), MoisConfig(seed=draw)
    triplets, counts = make_triplets(sample, config)
    assert [t.id for t in make_triplets(sample, config)[0]] == [t.id for t in triplets]
    for triplet in triplets:
        category = triplet.id.removeprefix(f"{sample.id}/")
        assert {ref.category for ref in triplet.objects} == {category} != {""}
        assert len(triplet.objects) >= 2
        assert set(triplet.objects) <= set(sample.objects)
        for ref in triplet.objects:
            assert np.array_equal(triplet.object_mask(ref), sample.object_mask(ref))
        union = np.logical_or.reduce([triplet.object_mask(ref) for ref in triplet.objects])
        assert np.array_equal((triplet.instance_masks > 0).any(axis=0), union)
        assert triplet.exemplar is not None
        (exemplar,) = [ref for ref in triplet.objects if ref.id == triplet.exemplar.object_id]
        mask, clicks = triplet.object_mask(exemplar), triplet.exemplar.clicks
        y, x = clicks.yx.astype(int).T
        assert 1 <= len(clicks) <= 20
        assert clicks.positive[0]
        assert np.array_equal(mask[y, x], clicks.positive)
        assert not triplet.ignore_mask[y, x].any()
    assert counts.triplets == len(triplets)
    assert counts.objects == sum(len(t.objects) for t in triplets)
    assert counts.images == min(1, len(triplets))
    left_out = counts.small_objects + counts.lone_objects + counts.nameless_objects
    assert counts.objects + left_out == len(categories)
    assert counts.nameless_objects == categories.count("")


def same(a: Sample, b: Sample) -> bool:
    return (a.id, a.exemplar) == (b.id, b.exemplar)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 500), st.permutations(["cat", "cat", "cat", "dog", "dog", "cup"]))
def test_a_triplet_does_not_depend_on_other_categories(seed: int, categories: list[str]) -> None:
    sample = scene(seed, categories)
    whole = {t.id: t for t in make_triplets(sample, DEFAULT)[0]}
    assert all(same(t, whole[t.id]) for t in make_triplets(sample, DEFAULT)[0])
    for category in ("cat", "dog"):
        alone = replace(sample, objects=tuple(ref for ref in sample.objects if ref.category == category))
        backwards = replace(alone, objects=alone.objects[::-1])
        for other in (alone, backwards):
            assert all(same(t, whole[t.id]) for t in make_triplets(other, DEFAULT)[0])


def test_exemplars_follow_from_seed_image_and_category() -> None:
    sample = scene(0, ["cat"] * 8)
    (first,) = make_triplets(sample, DEFAULT)[0]
    by_seed = [make_triplets(sample, MoisConfig(seed=seed))[0][0].exemplar for seed in range(30)]
    assert len({exemplar.object_id for exemplar in by_seed if exemplar}) == 8
    (renamed,) = make_triplets(replace(sample, id="another"), DEFAULT)[0]
    assert renamed.exemplar != first.exemplar
    other_kind = tuple(replace(ref, category="dog") for ref in sample.objects)
    (dogs,) = make_triplets(replace(sample, objects=other_kind), DEFAULT)[0]
    assert dogs.exemplar != first.exemplar


def described(samples: Sequence[Sample]) -> str:
    return str([(s.id, s.exemplar.object_id, s.exemplar.clicks.rows()) for s in samples if s.exemplar])


@pytest.mark.networks
def test_another_process_draws_the_same() -> None:
    code = "from tests.pipeline.test_mois import *; print(described(make_triplets(scene(3, 'aabb'), DEFAULT)[0]))"
    here = described(make_triplets(scene(3, "aabb"), DEFAULT)[0])
    root = Path(__file__).parents[2]
    environment = {"PYTHONHASHSEED": "17", "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", code]
    there = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=root)
    assert there.stdout.strip() == here
    assert "image 3/a" in here


def test_small_objects_are_left_out_and_ignored() -> None:
    masks = []
    for number, (top, left, side) in enumerate([(10, 10, 20), (40, 40, 20), (12, 12, 3), (60, 5, 3), (0, 60, 4)]):
        mask = np.zeros(HW, bool)
        mask[top : top + side, left : left + side] = True
        masks.append((str(number), "cat", mask))
    ignore = np.zeros(HW, bool)
    ignore[:4] = True  # holds the last object
    sample = pack_objects("s", np.zeros((*HW, 3), np.uint8), masks, ignore)
    (triplet,), counts = make_triplets(sample, MoisConfig(min_object_area=10))
    assert [ref.id for ref in triplet.objects] == ["0", "1"]
    assert counts == MoisCounts(images=1, triplets=1, objects=2, small_objects=3)
    assert triplet.ignore_mask[60, 5]
    assert not triplet.ignore_mask[12, 12]
    assert np.array_equal(sample.ignore_mask, ignore)
    (triplet,), counts = make_triplets(sample, DEFAULT)
    assert counts == MoisCounts(images=1, triplets=1, objects=4, small_objects=1)


def test_lone_and_crowded_categories_are_left_out_and_counted() -> None:
    sample = scene(1, ["cat", "dog", "dog", "cup", "cup", "cup", ""])
    triplets, counts = make_triplets(sample, MoisConfig(max_objects=2))
    assert [t.id for t in triplets] == ["image 1/dog"]
    assert counts == MoisCounts(images=1, triplets=1, objects=2, lone_objects=1, nameless_objects=1, crowded=1)


def test_counts_add_up() -> None:
    parts = [make_triplets(scene(seed, ["cat", "cat", "dog", "dog", "dog", ""]), DEFAULT)[1] for seed in range(5)]
    total = sum(parts, MoisCounts())
    assert total.triplets == sum(part.triplets for part in parts) == 10
    assert total.nameless_objects == 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"min_object_area": -1}, "min_object_area is -1"),
        ({"max_objects": 1}, "max_objects is 1"),
    ],
)
def test_wrong_settings_say_what_is_wrong(values: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MoisConfig(**values)


@pytest.mark.networks
def test_real_photos_give_the_verified_counts() -> None:
    root = REAL / "coco_panoptic200"
    if not root.is_dir():
        pytest.skip("coco_panoptic200 is not in MASKWRIGHT_DATA")
    reader = open_reader("coco_panoptic", str(root))
    total = sum((make_triplets(reader.load(item), DEFAULT)[1] for item in reader.items()), MoisCounts())
    assert (total.images, total.triplets, total.objects) == (132, 245, 1113)
    assert total.objects + total.lone_objects == 1447
