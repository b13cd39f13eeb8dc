"""LVIS, and COCO+LVIS as RITM packed it: their formats, their faults, and hostile pickles."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from models.errors import InputError
from pipeline.data.readers import open_reader
from pipeline.data.sample import BadItem
from tests.pipeline.small_data import SMALL, annotation, box, encoded_layer, labelled, picture, save, save_pickle


class TestLvis:
    def test_photos_of_a_split_lie_in_two_folders(self, tmp_path: Path) -> None:
        reader = SMALL["lvis"](tmp_path)
        items = reader.items()
        assert [(item.id, item.object_ids) for item in items] == [("139", ("139/2",)), ("30", ("30/1", "30/9"))]
        for item, folder in zip(items, ("val2017", "train2017"), strict=True):
            sample = reader.load(item)
            np.testing.assert_array_equal(sample.image, picture(int(item.id)))
            assert Path(sample.origin.file).parent.name == folder
            assert (sample.origin.licence, sample.origin.source) == ("http://by-nc", f"http://flickr/{item.id}")
        assert [ref.category for ref in reader.load(items[1]).objects] == ["fork", "fork"]

    def test_payloads_name_unlabelled_categories(self, tmp_path: Path) -> None:
        items = SMALL["lvis"](tmp_path).items()
        assert [item.payload["negative"] for item in items] == [["cup", "7"], ["cup", "7"]]
        assert [item.payload["not_exhaustive"] for item in items] == [[], ["fork"]]

    def test_photos_may_lie_in_an_images_folder(self, tmp_path: Path) -> None:
        reader = SMALL["lvis"](tmp_path)
        (tmp_path / "images").mkdir()
        for folder in ("val2017", "train2017"):
            (tmp_path / folder).rename(tmp_path / "images" / folder)
        assert [len(reader.load(item).objects) for item in reader.items()] == [1, 2]

    def test_a_split_is_required_if_there_are_two(self, tmp_path: Path) -> None:
        SMALL["lvis"](tmp_path)
        data = {"images": [], "annotations": [], "categories": []}
        (tmp_path / "lvis_v1_train.json").write_text(json.dumps(data))
        with pytest.raises(InputError, match="name one of train, val"):
            open_reader("lvis", str(tmp_path))
        assert len(open_reader("lvis", str(tmp_path), split="val").items()) == 2
        options = {"annotations": "annotations/lvis_v1_val.json"}
        assert len(open_reader("lvis", str(tmp_path), options=options).items()) == 2
        save(picture(), tmp_path / "other" / "images" / "a.png")
        with pytest.raises(InputError, match=r"holds \['images'\].*'lvis' expects"):
            open_reader("lvis", str(tmp_path / "other"))

    def test_it_needs_no_category_lists(self, tmp_path: Path) -> None:
        reader = SMALL["lvis"](tmp_path)
        path = tmp_path / "annotations" / "lvis_v1_val.json"
        data = json.loads(path.read_text())
        for image in data["images"]:
            image["neg_category_ids"] = None
            del image["not_exhaustive_category_ids"]
        data["annotations"] = [annotation(1, 30, box(1, 2, 5, 6), iscrowd=0)]
        path.write_text(json.dumps(data))
        assert [item.payload["negative"] + item.payload["not_exhaustive"] for item in reader.items()] == [[], []]


class TestCocoLvis:
    def test_objects_without_a_parent_are_objects_and_keep_their_parts(self, tmp_path: Path) -> None:
        reader = SMALL["coco_lvis"](tmp_path)
        first, second = reader.items()
        assert (first.id, first.object_ids) == ("000000000009", ("000000000009/0",))
        assert (second.id, second.object_ids) == ("000000000030", ("000000000030/0", "000000000030/2"))
        sample = reader.load(second)
        assert [int(sample.object_mask(ref).sum()) for ref in sample.objects] == [81, 81]
        np.testing.assert_array_equal(sample.object_mask(sample.objects[0]), box(0, 0, 9, 9))
        np.testing.assert_array_equal(sample.object_mask(sample.objects[1]), box(10, 10, 9, 9))

    def test_places_may_be_a_dict_and_layers_bytes(self, tmp_path: Path) -> None:
        reader = SMALL["coco_lvis"](tmp_path)
        layer = encoded_layer(labelled({7: box(1, 1, 4, 5)})).tobytes()
        save_pickle(((layer,), {0: [np.int64(0), np.int32(7)]}), tmp_path / "val" / "masks" / "000000000009.pickle")
        sample = reader.load(reader.items()[0])
        np.testing.assert_array_equal(sample.object_mask(sample.objects[0]), box(1, 1, 4, 5))

    def test_an_object_without_a_place_is_refused_alone(self, tmp_path: Path) -> None:
        reader = SMALL["coco_lvis"](tmp_path)
        layer = encoded_layer(labelled({1: box(0, 0, 9, 9)}))
        for places, reason in (
            ([(0, 1)], "no layer for it"),
            ([(0, 1), (0, 2), (5, 1)], "no layer for it"),
            ([(0, 1), (0, 2), (0, 0)], "no layer for it"),
            ([(0, 1), (0, 2), (0, 3)], "the mask is empty"),
        ):
            save_pickle(([layer], places), tmp_path / "val" / "masks" / "000000000030.pickle")
            sample = reader.load(reader.items()[1])
            assert [ref.id for ref in sample.objects] == ["000000000030/0"]
            assert len(sample.refused) == 1
            assert sample.refused[0].startswith("000000000030/2: ")
            assert reason in sample.refused[0]

    def test_unusable_masks_are_bad_items(self, tmp_path: Path) -> None:
        reader = SMALL["coco_lvis"](tmp_path)
        item = reader.items()[0]
        path = tmp_path / "val" / "masks" / "000000000009.pickle"
        layer = encoded_layer(labelled({1: box(0, 0, 9, 9)}))
        for value, reason in (
            ({"a": 1}, "expected the layers"),
            (([], []), "layers of one size, got"),
            (([layer, encoded_layer(np.zeros((3, 3), np.uint8))], [(0, 1)]), "layers of one size"),
            (([encoded_layer(labelled({1: box(0, 0, 9, 9)}), "JPEG")], [(0, 1)]), "a layer is not a PNG"),
            (([layer[:60]], [(0, 1)]), "broken"),
            (([encoded_layer(picture())], [(0, 1)]), "colours"),
            (([3], [(0, 1)]), "bytes of a PNG"),
            (([layer], [1]), "a layer and a label"),
            (([layer], [("0", 1)]), "a layer and a label"),
            (([encoded_layer(np.ones((9, 9), np.uint8))], [(0, 1)]), "annotations are 9 x 9"),
        ):
            save_pickle(value, path)
            with pytest.raises(BadItem, match=reason):
                reader.load(item)
        path.unlink()
        with pytest.raises(BadItem, match="does not exist"):
            reader.load(item)

    def test_hostile_pickles_are_refused_and_nothing_runs(self, tmp_path: Path) -> None:
        class Touch:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return os.system, (f"touch {tmp_path / 'ran'}",)

        reader = SMALL["coco_lvis"](tmp_path)
        item = reader.items()[0]
        save_pickle(([Touch()], [(0, 1)]), tmp_path / "val" / "masks" / f"{item.id}.pickle")
        with pytest.raises(BadItem, match=r"posix\.system, which is not plain data"):
            reader.load(item)
        save_pickle({"a": Touch()}, tmp_path / "val" / "hannotation.pickle")
        with pytest.raises(InputError, match=r"hannotation\.pickle.*posix\.system"):
            reader.items()
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        ("index", "reason"),
        [
            ([1], "expected a dict"),
            ({b"a": {}}, "expected a dict"),
            ({"a": {"num_instance_masks": 3}}, "image 'a' has no hierarchy"),
            ({"a": {"hierarchy": {"x": None}}}, "image 'a' has no hierarchy"),
            ({"a": {"hierarchy": {0: 5}}}, "image 'a' has no hierarchy"),
        ],
    )
    def test_another_index_is_refused(self, index: object, reason: str, tmp_path: Path) -> None:
        reader = SMALL["coco_lvis"](tmp_path)
        save_pickle(index, tmp_path / "val" / "hannotation.pickle")
        with pytest.raises(InputError, match=reason):
            reader.items()

    def test_names_outside_the_folder_are_refused(self, tmp_path: Path) -> None:
        reader = SMALL["coco_lvis"](tmp_path)
        save_pickle({"../../secret": {"hierarchy": {0: None}}}, tmp_path / "val" / "hannotation.pickle")
        with pytest.raises(BadItem, match="leads out"):
            reader.load(reader.items()[0])

    def test_splits_are_found_and_required(self, tmp_path: Path) -> None:
        SMALL["coco_lvis"](tmp_path)
        assert len(open_reader("coco_lvis", str(tmp_path / "val")).items()) == 2
        save_pickle({"7": {"hierarchy": {}}}, tmp_path / "train" / "hannotation.pickle")
        with pytest.raises(InputError, match="name one of train, val"):
            open_reader("coco_lvis", str(tmp_path))
        (item,) = open_reader("coco_lvis", str(tmp_path), split="train").items()
        assert (item.id, item.object_ids) == ("7", ())
