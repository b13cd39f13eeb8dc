"""Generated scenes, and writing any data set as COCO."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from models.errors import InputError
from pipeline.data.readers import open_reader
from pipeline.data.readers.scene_drawing import MIN_VISIBLE, lay_out
from pipeline.data.readers.scene_shapes import SHAPES, place, rasterise
from pipeline.data.readers.scene_textures import TEXTURES
from pipeline.data.readers.scenes import Scenes
from tests.pipeline.coco_writer import write_coco
from tests.pipeline.small_data import SMALL


def test_a_scene_depends_on_seed_and_index_alone() -> None:
    few, many = Scenes(num_images=3, seed=5), Scenes(num_images=9, seed=5)
    assert list(few.items()) == list(many.items())[:3]
    first, second = few.load(few.items()[2]), many.load(many.items()[2])
    np.testing.assert_array_equal(first.image, second.image)
    other = Scenes(num_images=3, seed=6)
    assert not np.array_equal(first.image, other.load(other.items()[2]).image)


def test_splits_share_no_scene() -> None:
    ids = [{item.id for item in Scenes(split=split, num_images=4).items()} for split in ("train", "val", "test")]
    assert len(set.union(*ids)) == 12


def test_objects_are_visible_and_differ_from_what_surrounds_them() -> None:
    reader = Scenes(num_images=12)
    for item in reader.items():
        sample = reader.load(item)
        assert 1 <= len(sample.objects) <= 8
        background = sample.image[sample.instance_masks[0] == 0].astype(float)
        for ref in sample.objects:
            mask = sample.object_mask(ref)
            assert mask.sum() >= MIN_VISIBLE
            assert ref.category in SHAPES
            inside = sample.image[mask].astype(float)
            assert inside.std(axis=0).max() > 3, "a constant colour would be trivial to segment"
            assert np.abs(inside.mean(axis=0) - background.mean(axis=0)).max() > 5


def test_size_and_number_of_objects_follow_the_settings() -> None:
    options = {"num_images": "2", "height": "100", "width": "90", "num_objects": "1"}
    reader = open_reader("scenes", options=options)
    for item in reader.items():
        sample = reader.load(item)
        assert sample.image.shape == (100, 90, 3)
        assert len(sample.objects) == 1


@pytest.mark.parametrize(
    "options", [{"height": "10"}, {"num_images": "0"}, {"seed": "-1"}, {"num_objects": "0,3"}], ids=str
)
def test_impossible_scenes_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(InputError, match="expected"):
        open_reader("scenes", options=options)


def test_an_object_that_is_covered_up_is_dropped() -> None:
    layouts = [lay_out(np.random.default_rng([1, n]), (64, 64), (25, 25)) for n in range(5)]
    assert any(len(layout.families) < 25 for layout in layouts)
    for layout in layouts:
        counts = np.bincount(layout.labels.ravel(), minlength=len(layout.families) + 1)[1:]
        assert counts.min() >= MIN_VISIBLE
        for number, coverage in enumerate(layout.coverage, start=1):
            assert (coverage[layout.labels == number] >= 128).all()


@pytest.mark.parametrize("family", sorted(SHAPES))
def test_outlines_fill_a_sane_area_inside_their_radius(family: str) -> None:
    for seed in range(20):
        contours = SHAPES[family](np.random.default_rng(seed))
        coverage = rasterise(place(contours, np.array([100.0, 100.0]), 60, 0.3 * seed), (200, 200))
        area = int((coverage >= 128).sum())
        assert 400 < area < np.pi * 66**2
        assert max(np.linalg.norm(contour, axis=1).max() for contour in contours) < 1.6


@pytest.mark.parametrize("family", ["ring", "button"])
def test_rings_and_buttons_have_holes(family: str) -> None:
    contours = SHAPES[family](np.random.default_rng(3))
    whole = rasterise(place(contours[:1], np.array([50.0, 50.0]), 40, 0), (100, 100)) >= 128
    pierced = rasterise(place(contours, np.array([50.0, 50.0]), 40, 0), (100, 100)) >= 128
    assert pierced.sum() < 0.9 * whole.sum()
    assert not (pierced & ~whole).any()


@pytest.mark.parametrize("family", sorted(TEXTURES))
def test_surfaces_stay_in_range_and_vary(family: str) -> None:
    for seed in range(6):
        surface = TEXTURES[family](np.random.default_rng(seed), (40, 60), 8.0)
        assert surface.shape == (40, 60)
        assert surface.min() >= 0
        assert surface.max() <= 1
        assert surface.std() > 0.02


def test_written_coco_reads_back_the_same(tmp_path: Path) -> None:
    reader = Scenes(num_images=3)
    path = write_coco(reader, tmp_path, image_format="png")
    assert path == tmp_path / "annotations.json"
    again = open_reader("coco", str(tmp_path))
    for before, after in zip(reader.items(), again.items(), strict=True):
        one, two = reader.load(before), again.load(after)
        np.testing.assert_array_equal(one.image, two.image)
        assert [ref.category for ref in one.objects] == [ref.category for ref in two.objects]
        for ref, same in zip(one.objects, two.objects, strict=True):
            np.testing.assert_array_equal(one.object_mask(ref), two.object_mask(same))
    named = [entry["object_id"] for entry in json.loads(path.read_text())["annotations"]]
    assert named == [object_id for item in reader.items() for object_id in item.object_ids]


def test_written_coco_keeps_ignored_regions_and_leaves_out_bad_items(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader = SMALL["coco"](tmp_path / "from")
    (tmp_path / "from" / "images" / "3.png").unlink()
    with caplog.at_level(logging.WARNING):
        write_coco(reader, tmp_path / "to")
    assert "left out: 3:" in caplog.text
    again = open_reader("coco", str(tmp_path / "to"))
    (item,) = again.items()
    np.testing.assert_array_equal(again.load(item).ignore_mask, reader.load(reader.items()[0]).ignore_mask)
