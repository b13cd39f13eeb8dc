"""Properties of all readers, then folders of masks and COCO panoptic; COCO instances are in test_coco.py."""

import csv
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.errors import InputError
from pipeline.data.images import read_image
from pipeline.data.readers import READERS, open_reader
from pipeline.data.readers.prepared import Prepared
from pipeline.data.readers.scenes import Scenes
from pipeline.data.sample import BadItem, Reader, stream_items
from tests.pipeline.small_data import HW, SMALL, box, picture, save

REAL = Path(os.environ.get("MASKWRIGHT_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


@pytest.fixture(params=sorted(READERS))
def reader(request: pytest.FixtureRequest, tmp_path: Path) -> Reader:
    return SMALL[request.param](tmp_path)


class TestContract:
    def test_items_are_sorted_unique_and_stable(self, reader: Reader) -> None:
        items = reader.items()
        ids = [item.id for item in items]
        assert ids
        assert ids == sorted(set(ids))
        assert list(reader.items()) == list(items)
        object_ids = [object_id for item in items for object_id in item.object_ids]
        assert object_ids
        assert len(set(object_ids)) == len(object_ids)

    def test_samples_have_the_promised_arrays(self, reader: Reader) -> None:
        for item in reader.items():
            sample = reader.load(item)
            hw = sample.image.shape[:2]
            assert sample.id == item.id
            assert sample.image.dtype == np.uint8
            assert sample.image.shape == (*hw, 3)
            assert sample.image.flags.writeable
            assert sample.instance_masks.dtype == np.uint16
            assert sample.instance_masks.shape[1:] == hw
            assert sample.ignore_mask.dtype == np.bool_
            assert sample.ignore_mask.shape == hw

    def test_every_listed_object_is_loaded_or_refused_by_name(self, reader: Reader) -> None:
        for item in reader.items():
            sample = reader.load(item)
            refused = [reason.split(": ", 1)[0] for reason in sample.refused]
            assert sorted([ref.id for ref in sample.objects] + refused) == sorted(item.object_ids)

    def test_every_value_on_a_layer_is_one_object(self, reader: Reader) -> None:
        for item in reader.items():
            sample = reader.load(item)
            places = [(ref.layer, ref.value) for ref in sample.objects]
            assert len(set(places)) == len(places)
            assert all(sample.object_mask(ref).any() for ref in sample.objects)
            found = {(n, int(v)) for n, layer in enumerate(sample.instance_masks) for v in np.unique(layer) if v}
            assert found == set(places)

    def test_it_survives_pickling_and_loads_the_same_twice(self, reader: Reader) -> None:
        again = pickle.loads(pickle.dumps(reader))
        for item in reader.items():
            first, second = reader.load(item), again.load(pickle.loads(pickle.dumps(item)))
            np.testing.assert_array_equal(first.image, second.image)
            np.testing.assert_array_equal(first.instance_masks, second.instance_masks)
            np.testing.assert_array_equal(first.ignore_mask, second.ignore_mask)
            assert (first.objects, first.refused) == (second.objects, second.refused)

    def test_items_survive_json_and_load_the_same(self, reader: Reader) -> None:
        for item in reader.items():
            again = replace(item, payload=json.loads(json.dumps(item.payload)))
            first, second = reader.load(item), reader.load(again)
            np.testing.assert_array_equal(first.image, second.image)
            np.testing.assert_array_equal(first.instance_masks, second.instance_masks)
            np.testing.assert_array_equal(first.ignore_mask, second.ignore_mask)
            assert (first.id, first.objects, first.refused) == (second.id, second.objects, second.refused)
            assert first.origin == second.origin

    def test_the_origin_file_holds_the_pixels(self, reader: Reader) -> None:
        for item in reader.items():
            sample = reader.load(item)
            assert bool(sample.origin.file) == (not isinstance(reader, Scenes | Prepared))
            if sample.origin.file:
                hw = (sample.image.shape[0], sample.image.shape[1])
                np.testing.assert_array_equal(read_image(Path(sample.origin.file), expected_hw=hw), sample.image)

    def test_streaming_lists_the_same(self, reader: Reader) -> None:
        assert list(stream_items(reader)) == list(reader.items())


class TestOpening:
    def test_an_unknown_reader_suggests_the_nearest(self) -> None:
        with pytest.raises(InputError, match="did you mean 'davis'"):
            open_reader("daviss", "/")

    @pytest.mark.parametrize("name", sorted(set(READERS) - {"scenes"}))
    def test_root_is_needed_and_must_exist(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="needs a root folder"):
            open_reader(name)
        with pytest.raises(InputError, match=r"does not exist.*expects"):
            open_reader(name, str(tmp_path / "nowhere"))
        with pytest.raises(InputError, match="expect"):
            open_reader(name, str(tmp_path))

    @pytest.mark.parametrize("name", sorted(READERS))
    def test_unknown_split_is_refused(self, name: str, tmp_path: Path) -> None:
        SMALL[name](tmp_path)
        with pytest.raises(InputError, match=r"no split 'holdout'.*expected"):
            open_reader(name, None if name == "scenes" else str(tmp_path), split="holdout")

    def test_scenes_read_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="reads no folder"):
            open_reader("scenes", str(tmp_path))

    def test_options_are_checked_by_name_and_by_type(self) -> None:
        with pytest.raises(InputError, match="did you mean 'num_images'"):
            open_reader("scenes", options={"num_image": "3"})
        with pytest.raises(InputError, match=r"num_images='many'.*a whole number"):
            open_reader("scenes", options={"num_images": "many"})
        with pytest.raises(InputError, match=r"range such as 3,6"):
            open_reader("scenes", options={"num_objects": "few"})
        with pytest.raises(InputError, match="num_objects"):
            open_reader("scenes", options={"num_objects": "6,3"})

    def test_option_texts_become_typed_fields(self, tmp_path: Path) -> None:
        SMALL["coco_panoptic"](tmp_path)
        options = {"things_only": "no", "min_area_fraction": "0.15"}
        reader = open_reader("coco_panoptic", str(tmp_path), split="val", options=options)
        assert [item.object_ids for item in reader.items()] == [("val/5/300", "val/5/9")]
        with pytest.raises(InputError, match="true or false"):
            open_reader("coco_panoptic", str(tmp_path), options={"things_only": "perhaps"})


class TestPanoptic:
    def test_colours_are_segments_and_crowds_are_ignored(self, tmp_path: Path) -> None:
        reader = SMALL["coco_panoptic"](tmp_path)
        item = reader.items()[0]
        sample = reader.load(item)
        assert item.object_ids == ("train/40/70000", "train/40/300", "train/40/77")
        assert [(ref.id, ref.category) for ref in sample.objects] == [
            ("train/40/70000", "cat"),
            ("train/40/300", "cat"),
        ]
        np.testing.assert_array_equal(sample.object_mask(sample.objects[0]), box(0, 0, 5, 5))
        np.testing.assert_array_equal(sample.object_mask(sample.objects[1]), box(6, 6, 10, 10))
        np.testing.assert_array_equal(sample.ignore_mask, box(0, 20, 4, 4))
        assert sample.refused == ("train/40/77: the mask is empty",)

    def test_broken_files_are_bad_items(self, tmp_path: Path) -> None:
        reader = SMALL["coco_panoptic"](tmp_path)
        first, second = reader.items()
        save(picture(hw=(9, 9)), tmp_path / "images" / "train" / "40.png")
        with pytest.raises(BadItem, match="9 x 9"):
            reader.load(first)
        (tmp_path / "annotations" / "panoptic_val" / "5.png").unlink()
        with pytest.raises(BadItem, match="does not exist"):
            reader.load(second)

    def test_other_json_is_refused(self, tmp_path: Path) -> None:
        reader = SMALL["coco_panoptic"](tmp_path)
        path = tmp_path / "annotations" / "panoptic_val.json"
        path.write_text('{"images": [], "annotations": []}')
        with pytest.raises(InputError, match="it has keys annotations, images"):
            reader.items()
        path.write_text('{"images": [], "annotations": [{}], "categories": []}')
        with pytest.raises(InputError, match="an entry lacks 'image_id'"):
            reader.items()


class TestMasks:
    def test_above_keeps_values_over_the_threshold_and_ignores_the_band(self, tmp_path: Path) -> None:
        reader = SMALL["grabcut"](tmp_path)
        sample = reader.load(reader.items()[0])
        assert [ref.id for ref in sample.objects] == ["a bear/1"]
        np.testing.assert_array_equal(sample.object_mask(sample.objects[0]), box(10, 3, 4, 17))
        np.testing.assert_array_equal(sample.ignore_mask, box(5, 3, 4, 17))

    def test_an_ignored_value_over_the_threshold_is_no_object(self, tmp_path: Path) -> None:
        SMALL["grabcut"](tmp_path)
        reader = open_reader("grabcut", str(tmp_path), options={"rule": "above:50,ignore:128"})
        sample = reader.load(reader.items()[0])
        np.testing.assert_array_equal(sample.object_mask(sample.objects[0]), box(0, 3, 4, 17) | box(10, 3, 4, 17))

    def test_ids_make_one_object_per_value(self, tmp_path: Path) -> None:
        reader = SMALL["masks"](tmp_path)
        sample = reader.load(reader.items()[1])
        assert [ref.id for ref in sample.objects] == ["b/1", "b/7"]
        np.testing.assert_array_equal(sample.object_mask(sample.objects[1]), box(5, 3, 4, 17))
        np.testing.assert_array_equal(sample.ignore_mask, box(10, 3, 4, 17))

    def test_ids_may_be_colours_or_sixteen_bits(self, tmp_path: Path) -> None:
        colours = np.zeros((*HW, 3), np.uint8)
        colours[box(0, 0, 4, 4)] = (0, 128, 0)
        colours[box(8, 8, 4, 4)] = (128, 0, 0)
        save(picture(), tmp_path / "images" / "rgb.png")
        save(colours, tmp_path / "masks" / "rgb.png")
        save(picture(), tmp_path / "images" / "deep.png")
        save((box(2, 2, 3, 3) * 40_000).astype(np.uint16), tmp_path / "masks" / "deep.png")
        items = open_reader("masks", str(tmp_path), options={"rule": "ids"}).items()
        assert [item.object_ids for item in items] == [("deep/40000",), ("rgb/128", "rgb/32768")]

    def test_nonzero_reads_the_palette_index_not_its_colour(self, tmp_path: Path) -> None:
        save(picture(), tmp_path / "img" / "a.png")
        labels = Image.fromarray(box(3, 4, 5, 6).astype(np.uint8)).convert("P")
        labels.putpalette([10, 10, 90, 0, 0, 0])  # the background shines, the object is black
        (tmp_path / "gt").mkdir()
        labels.save(tmp_path / "gt" / "a.png")
        reader = open_reader("davis", str(tmp_path))
        sample = reader.load(reader.items()[0])
        np.testing.assert_array_equal(sample.object_mask(sample.objects[0]), box(3, 4, 5, 6))

    def test_unusable_items_are_named(self, tmp_path: Path) -> None:
        save(picture(), tmp_path / "img" / "fine.png")
        save(picture(), tmp_path / "img" / "alone.png")
        save(picture(hw=(8, 8)), tmp_path / "img" / "small.png")
        save(picture(), tmp_path / "img" / "black.png")
        save(picture(), tmp_path / "img" / "text.png").write_text("no image")
        for stem in ("fine", "small", "black", "text"):
            save((box(1, 1, 5, 5) * (stem != "black")).astype(np.uint8), tmp_path / "gt" / f"{stem}.png")
        reader = open_reader("davis", str(tmp_path))
        items = {item.id: item for item in reader.items()}
        assert len(reader.load(items["fine"]).objects) == 1
        assert reader.load(items["black"]).refused == ("black/1: the mask is empty",)
        for name, reason in (("alone", "no mask file"), ("small", "8 x 8"), ("text", "not an image")):
            with pytest.raises(BadItem, match=reason):
                reader.load(items[name])

    def test_a_wrong_folder_is_refused_as_a_whole(self, tmp_path: Path) -> None:
        save(picture(), tmp_path / "images" / "a.png")
        save(box(1, 1, 2, 2).astype(np.uint8), tmp_path / "masks" / "other.png")
        with pytest.raises(InputError, match="none of the 1 images"):
            open_reader("masks", str(tmp_path)).items()
        save(picture(), tmp_path / "images" / "other.png")
        save(picture(), tmp_path / "images" / "other.bmp")
        with pytest.raises(InputError, match="occur twice"):
            open_reader("masks", str(tmp_path)).items()

    @pytest.mark.parametrize("rule", ["", "above", "above:x", "ids:3", "nonzero,ignore:1", "ids,skip:2", "rgb"])
    def test_invalid_rules_are_refused(self, rule: str, tmp_path: Path) -> None:
        SMALL["masks"](tmp_path)
        with pytest.raises(InputError, match="expected nonzero, above:N"):
            open_reader("masks", str(tmp_path), options={"rule": rule})

    def test_a_split_is_a_folder_over_both(self, tmp_path: Path) -> None:
        save(picture(), tmp_path / "val" / "img" / "a.png")
        save(box(1, 1, 2, 2).astype(np.uint8), tmp_path / "val" / "gt" / "a.png")
        assert [item.id for item in open_reader("masks", str(tmp_path), split="val").items()] == ["a"]


@pytest.mark.parametrize(
    ("name", "folder", "num_objects"),
    [
        ("coco_panoptic", "coco_panoptic200", 1447),
        ("coco_mval", "COCO_MVal_dev", 173),
        ("davis", "DAVIS_dev", 81),
        pytest.param("bsds500", "BSDS500", 1446, marks=pytest.mark.networks),
        ("nuclei", "DSB2018_dev", 705),
    ],
)
def test_real_data_has_the_counts_its_readme_states(name: str, folder: str, num_objects: int) -> None:
    if not (REAL / folder).is_dir():
        pytest.skip(f"{folder} is not in MASKWRIGHT_DATA")
    reader = open_reader(name, str(REAL / folder))
    items = reader.items()
    assert sum(len(item.object_ids) for item in items) == num_objects
    for item in items[:: len(items) // 8]:
        sample = reader.load(item)
        assert (len(sample.objects), sample.refused) == (len(item.object_ids), ())


@pytest.mark.networks
@pytest.mark.parametrize("split", ["train", "val"])
def test_real_bsds_objects_are_those_of_its_table(split: str) -> None:
    table = REAL / "BSDS500" / f"objects_{split}.csv"
    if not table.is_file():
        pytest.skip("BSDS500 is not in MASKWRIGHT_DATA")
    with table.open(newline="") as file:
        expected = [f"{split}/{row['id']}/{row['annotator']}.{row['label']}" for row in csv.DictReader(file)]
    items = open_reader("bsds500", str(REAL / "BSDS500"), split=split).items()
    assert sorted(object_id for item in items for object_id in item.object_ids) == sorted(expected)


class TestSeveral:
    def test_one_of_every_images_is_listed_and_options_reach_the_reader(self, tmp_path: Path) -> None:
        SMALL["several"](tmp_path)
        photos = [item.id for item in open_reader("several", str(tmp_path)).items() if item.id.startswith("a/")]
        parts = [{"reader": "coco", "root": "photos", "every": 2, "options": {"crowds": "objects"}}]
        (tmp_path / "several.json").write_text(json.dumps(parts))
        some = open_reader("several", str(tmp_path))
        assert [item.id for item in some.items()] == [f"photos/{name[2:]}" for name in photos[::2]]
        # A crowd, which the reader can read as an object by an option.
        assert "photos/12/8" in [name for item in some.items() for name in item.object_ids]

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("{", "not a list of data sets"),
            ("[]", "at least one"),
            ('[{"reader": "coco", "root": "photos"}, {"reader": "him2k", "root": "other/photos"}]', "each `name` once"),
            ('[{"reader": "coco", "rot": "photos"}]', "did you mean 'root'"),
            ('[{"reader": "coco", "root": "photos", "every": 0}]', "at least 1"),
            ('[{"reader": "coco", "root": "photos", "every": 2.5}]', "every is 2.5, which must be of type int"),
            ('[{"reader": "coco", "root": "photos", "options": {"categories": ["a"]}}]', "must be text"),
            ('[{"reader": "several", "root": "."}]', "another reader"),
            ('[{"root": "photos"}]', "another reader"),
            ("{}", "it is a dict"),
        ],
    )
    def test_invalid_lists_are_refused(self, text: str, named: str, tmp_path: Path) -> None:
        SMALL["several"](tmp_path)
        (tmp_path / "several.json").write_text(text)
        with pytest.raises(InputError, match=named):
            open_reader("several", str(tmp_path))

    def test_a_broken_image_is_named_with_its_data_set(self, tmp_path: Path) -> None:
        reader = SMALL["several"](tmp_path)
        item = next(item for item in reader.items() if item.id.startswith("a/"))
        for image in (tmp_path / "photos").rglob("*.png"):
            image.write_bytes(b"")
        for image in (tmp_path / "photos").rglob("*.jpg"):
            image.write_bytes(b"")
        with pytest.raises(BadItem) as caught:
            reader.load(item)
        assert caught.value.item_id == item.id
