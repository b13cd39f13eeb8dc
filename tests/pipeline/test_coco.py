"""COCO instances: the three encodings, the quirks of exports, and invalid RLE."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from models.errors import InputError
from pipeline.data import rle
from pipeline.data.readers import open_reader
from pipeline.data.sample import BadItem, Sample
from tests.pipeline.small_data import HW, annotation, box, image_record, picture, save, write_coco_json

GOLDEN = json.loads((Path(__file__).parent / "golden" / "coco_encodings.json").read_text())


def load_one(
    root: Path, image: dict[str, Any] | None = None, annotations: list[dict[str, Any]] | None = None
) -> Sample:
    if not (root / "images").exists():
        save(picture(), root / "images" / "a.png")
    record = image_record(1, "a.png") if image is None else image
    write_coco_json(root, [record], [annotation(1, 1, box(1, 1, 4, 4))] if annotations is None else annotations)
    reader = open_reader("coco", str(root))
    return reader.load(reader.items()[0])


class TestEncodings:
    @pytest.mark.parametrize(
        ("shape", "encoding"),
        [
            (shape, key)
            for shape in GOLDEN
            for key in ("polygons", "uncompressed", "compressed")
            if key in GOLDEN[shape]
        ],
    )
    def test_golden_mask(self, shape: str, encoding: str, tmp_path: Path) -> None:
        golden = GOLDEN[shape]
        expected = np.array([[character == "#" for character in row] for row in golden["rows"]])
        save(picture(hw=expected.shape), tmp_path / "images" / "a.png")
        record = {"id": 4, "image_id": 1, "category_id": 3, "iscrowd": 0, "segmentation": golden[encoding]}
        sample = load_one(tmp_path, image_record(1, "a.png", expected.shape), [record])
        np.testing.assert_array_equal(sample.object_mask(sample.objects[0]), expected)

    def test_counts_may_be_bytes(self) -> None:
        mask = box(2, 3, 4, 5)
        encoded = rle.encode(mask)
        as_bytes = {"size": encoded["size"], "counts": encoded["counts"].encode()}
        np.testing.assert_array_equal(rle.from_segmentation(as_bytes, HW), mask)

    def test_a_flat_polygon_and_fragments_are_understood(self) -> None:
        flat = rle.from_segmentation([2, 3, 7, 3, 7, 9.0, 2, 9], HW)
        np.testing.assert_array_equal(flat, box(3, 2, 6, 5))
        np.testing.assert_array_equal(rle.from_segmentation([[2, 3, 7, 3, 7, 9, 2, 9], [1, 1], [0, 0, 3, 3]], HW), flat)

    def test_corners_may_be_pairs_and_lists_nested(self) -> None:
        pairs = [[2, 3], [7, 3], [7, 9.0], [2, 9]]
        other = [[10, 10], [12, 10], [12, 12], [10, 12]]
        flat = [value for corner in pairs for value in corner]
        for form in (pairs, [pairs], [[pairs]], [[flat]]):
            np.testing.assert_array_equal(rle.from_segmentation(form, HW), box(3, 2, 6, 5))
        both = box(3, 2, 6, 5) | box(10, 10, 2, 2)
        for form in ([pairs, other], [flat, other], [[flat], [other]]):
            np.testing.assert_array_equal(rle.from_segmentation(form, HW), both)

    def test_counts_may_be_bytes_written_as_text(self) -> None:
        """As str() writes them, with every backslash of the COCO text doubled."""
        mask = np.random.default_rng(0).random(HW) < 0.3
        encoded = rle.encode(mask)
        assert "\\" in encoded["counts"]
        for text in (str(encoded["counts"].encode()), 'b"' + str(encoded["counts"].encode())[2:-1] + '"'):
            np.testing.assert_array_equal(rle.from_segmentation({"size": list(HW), "counts": text}, HW), mask)

    @pytest.mark.parametrize(
        ("segmentation", "reason"),
        [
            ([], "empty"),
            (None, "empty"),
            ("abc", "a str: expected polygons or RLE"),
            ([[1, 1, 5, 5]], "three corners"),
            ([[1, 1, 5, 5, 3]], "x, y pairs"),
            ([[1, 1, 5, "x", 3, 3]], "list of numbers"),
            ([[1, 1, 1e9, 5, 3, 3]], "far outside"),
            ([[1, 1, float("inf"), 5, 3, 3]], "Infinity, far outside"),
            ([[1, 1, float("nan"), 5, 3, 3]], "a polygon holds NaN"),
            ([[1, 1, None, 5, 3, 3]], "a polygon holds null"),
            ([[1, 1], [None, 5], [3, 3]], "a polygon holds null"),
            ([None, [1, 1, 2, 5, 3, 3]], "a polygon is null"),
            ([None], "a polygon is null: expected [x, y, x, y, ...]"),
            ([[None]], "a polygon is null: expected [x, y, x, y, ...]"),
            ([[True, 1, 5, 1, 5, 5]], "a polygon holds true: expected numbers"),
            ([True, False, True, True, False, True], "a polygon holds true: expected numbers"),
            ([rle.encode(box(0, 0, 2, 2))], "the segmentation is a list of RLE: expected one"),
            ([rle.encode(box(0, 0, 2, 2)), [1, 1, 2, 5, 3, 3]], "the segmentation is a list of RLE: expected one"),
            (float("nan"), "the segmentation is NaN"),
            (None, "the segmentation is null"),
            ([[1, 1], [5, 1]], "three corners"),
            ([[1, 1], [5, 1], [5, 5, 5]], "x, y pairs"),
            ([[[[[1, 1, 5, 1, 5, 5]]]]], "expected [x, y, x, y, ...] or [[x, y]"),
            ([{"x": 1, "y": 2}], "list of numbers"),
            ({"size": [20, 30], "counts": None}, "the RLE counts are missing or null"),
            ({"size": [20, 30], "counts": [5, None]}, "the RLE counts hold null"),
            ({"size": [20, 30], "counts": [5, float("nan")]}, "the RLE counts hold NaN"),
            ({"size": [20, None], "counts": [5]}, "the RLE size is [20, null]"),
            ({"counts": [600]}, "the RLE has no size: expected [height, width]"),
            ({"size": None, "counts": [600]}, "the RLE has no size: expected [height, width]"),
            ({"size": [20, 30], "counts": "b'zzz'"}, "character"),
            ({"size": [20, 30], "counts": "b'"}, "character"),
            ({"size": [20, 30], "counts": [5, 5]}, "add up to 10"),
            ({"size": [20, 30], "counts": [700, -100]}, "run"),
            ({"size": [30, 20], "counts": [600]}, "size"),
            ({"size": [20, 30], "counts": ""}, "add up to 0"),
            ({"size": [20, 30], "counts": "zzz"}, "character"),
            ({"size": [20, 30]}, "missing or null"),
        ],
    )
    def test_a_broken_segmentation_is_refused_by_name(self, segmentation: Any, reason: str, tmp_path: Path) -> None:
        good = annotation(1, 1, box(1, 1, 4, 4))
        sample = load_one(tmp_path, annotations=[good, annotation(2, 1, box(0, 0, 1, 1), segmentation=segmentation)])
        assert [ref.id for ref in sample.objects] == ["1/1"]
        assert len(sample.refused) == 1
        assert sample.refused[0].startswith("1/2: ")
        assert reason in sample.refused[0]


class TestQuirks:
    def test_crowds_are_ignored_regions_not_objects(self, tmp_path: Path) -> None:
        crowd = annotation(2, 1, box(9, 9, 5, 5), iscrowd=1)
        sample = load_one(tmp_path, annotations=[annotation(1, 1, box(1, 1, 4, 4)), crowd])
        assert [ref.id for ref in sample.objects] == ["1/1"]
        np.testing.assert_array_equal(sample.ignore_mask, box(9, 9, 5, 5))

    def test_overlapping_objects_keep_their_whole_masks(self, tmp_path: Path) -> None:
        masks = [box(1, 1, 10, 10), box(5, 5, 10, 10)]
        sample = load_one(tmp_path, annotations=[annotation(n, 1, mask) for n, mask in enumerate(masks)])
        for ref, mask in zip(sample.objects, masks, strict=True):
            np.testing.assert_array_equal(sample.object_mask(ref), mask)

    def test_an_empty_mask_of_area_zero_is_refused(self, tmp_path: Path) -> None:
        sample = load_one(tmp_path, annotations=[annotation(1, 1, np.zeros(HW, bool), area=0, bbox=[0.5, 0, 0, 0])])
        assert sample.refused == ("1/1: the mask is empty",)

    def test_category_names_are_optional(self, tmp_path: Path) -> None:
        save(picture(), tmp_path / "a.png")
        records = [annotation(1, 1, box(1, 1, 4, 4)), annotation(2, 1, box(9, 9, 2, 2), category_id=5)]
        del records[0]["id"], records[0]["category_id"]
        data = {"images": [image_record(1, "a.png")], "annotations": records, "categories": [{"id": 5, "name": "cup"}]}
        (tmp_path / "_annotations.coco.json").write_text(json.dumps(data))
        reader = open_reader("coco", str(tmp_path))
        objects = reader.load(reader.items()[0]).objects
        assert [(ref.id, ref.category) for ref in objects] == [("1/n0", ""), ("1/2", "cup")]

    def test_two_annotations_with_one_id_stay_two_objects(self, tmp_path: Path) -> None:
        sample = load_one(tmp_path, annotations=[annotation(3, 1, box(1, 1, 4, 4)), annotation(3, 1, box(9, 9, 2, 2))])
        assert [ref.id for ref in sample.objects] == ["1/3", "1/3~1"]

    def test_same_file_name_in_two_folders(self, tmp_path: Path) -> None:
        for number, folder in enumerate(("one", "two")):
            save(picture(number), tmp_path / "images" / folder / "a.png")
        images = [image_record(1, "one/a.png"), image_record(2, "two/a.png")]
        write_coco_json(tmp_path, images, [annotation(n, n, box(1, 1, 3, 3)) for n in (1, 2)])
        reader = open_reader("coco", str(tmp_path))
        for number, item in enumerate(reader.items()):
            np.testing.assert_array_equal(reader.load(item).image, picture(number))

    def test_lvis_images_have_only_a_url(self, tmp_path: Path) -> None:
        save(picture(), tmp_path / "train2017" / "7.png")
        record = {"id": 7, "coco_url": "http://images.example.org/train2017/7.png", "height": 20, "width": 30}
        write_coco_json(tmp_path, [record], [annotation(1, 7, box(1, 1, 3, 3))])
        reader = open_reader("coco", str(tmp_path))
        np.testing.assert_array_equal(reader.load(reader.items()[0]).image, picture())

    @pytest.mark.parametrize(
        ("record", "reason"),
        [
            (image_record(1, "absent.png"), "does not exist"),
            (image_record(1, "../secret.png"), "the file does not exist in .*leads out.*option images"),
            (image_record(1, "/etc/hostname"), "the file does not exist in .*leads out.*option images"),
            (image_record(1, "a\0.png"), "holds a zero byte"),
            (image_record(1, "a.png", (99, 30)), "annotations are 99 x 30"),
            ({"id": 1}, "neither file_name nor coco_url"),
            (image_record(1, "a" * 5000 + ".png"), "the file does not exist in .*option images"),
        ],
    )
    def test_unusable_images_are_bad_items(self, record: dict[str, Any], reason: str, tmp_path: Path) -> None:
        save(picture(), tmp_path / "secret.png")
        with pytest.raises(BadItem, match=reason):
            load_one(tmp_path / "set", record)

    def test_annotations_of_unknown_images_are_counted(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING):
            load_one(tmp_path, annotations=[annotation(1, 1, box(1, 1, 4, 4)), annotation(2, 8, box(1, 1, 4, 4))])
        assert "1 annotations of unknown images" in caplog.text


class TestFinding:
    def test_splits_choose_json_and_folder(self, tmp_path: Path) -> None:
        for number, split in enumerate(("train", "val")):
            save(picture(number), tmp_path / split / "a.png")
            write_coco_json(
                tmp_path,
                [image_record(number, "a.png")],
                [annotation(1, number, box(1, 1, 3, 3))],
                f"annotations/instances_{split}.json",
            )
        reader = open_reader("coco", str(tmp_path), split="val")
        np.testing.assert_array_equal(reader.load(reader.items()[0]).image, picture(1))
        with pytest.raises(InputError, match="splits found: train, val"):
            open_reader("coco", str(tmp_path), split="test")
        with pytest.raises(InputError, match=r"several annotation files.*name a split"):
            open_reader("coco", str(tmp_path))

    def test_roboflow_keeps_json_beside_the_images(self, tmp_path: Path) -> None:
        save(picture(), tmp_path / "valid" / "a.png")
        write_coco_json(
            tmp_path, [image_record(0, "a.png")], [annotation(0, 0, box(1, 1, 3, 3))], "valid/_annotations.coco.json"
        )
        reader = open_reader("coco", str(tmp_path), split="valid")
        assert len(reader.load(reader.items()[0]).objects) == 1
        with pytest.raises(InputError, match="divided into splits: name one of valid"):
            open_reader("coco", str(tmp_path))

    def test_options_name_json_and_folder(self, tmp_path: Path) -> None:
        save(picture(), tmp_path / "photos" / "a.png")
        write_coco_json(tmp_path, [image_record(1, "a.png")], [annotation(1, 1, box(1, 1, 3, 3))], "deep/labels.json")
        options = {"annotations": "deep/labels.json", "images": "photos"}
        reader = open_reader("coco", str(tmp_path), options=options)
        assert len(reader.load(reader.items()[0]).objects) == 1
        with pytest.raises(InputError, match=r"'no\.json' is not a file"):
            open_reader("coco", str(tmp_path), options={"annotations": "no.json"})
        with pytest.raises(InputError, match="'no' is not a folder"):
            open_reader("coco", str(tmp_path), options={**options, "images": "no"}).items()

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ('{"shapes": [], "version": 1}', "it has keys shapes, version"),
            ("[1, 2]", "it is a list"),
            ("{", "cannot be read as JSON"),
            ('{"images": {}, "annotations": []}', "lists"),
            ('{"images": [{"id": 1}, {"id": 1}], "annotations": []}', "two images have the id 1"),
        ],
    )
    def test_files_that_are_not_coco_are_refused(self, text: str, reason: str, tmp_path: Path) -> None:
        (tmp_path / "annotations.json").write_text(text)
        with pytest.raises(InputError, match=reason):
            open_reader("coco", str(tmp_path)).items()


class TestRle:
    @given(mask=arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40))))
    @settings(max_examples=80, deadline=None)
    def test_encoding_equals_pycocotools_and_round_trips(self, mask: np.ndarray) -> None:
        encoded = rle.encode(mask)
        assert encoded["counts"].encode() == coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"]
        np.testing.assert_array_equal(rle.decode(encoded, mask.shape), mask)

    @given(data=st.data())
    @settings(max_examples=250, deadline=None)
    def test_corrupt_counts_never_crash_nor_leak(self, data: st.DataObject) -> None:
        mask = np.random.default_rng(data.draw(st.integers(0, 9))).random((9, 11)) < 0.4
        counts = bytearray(rle.encode(mask)["counts"].encode())
        for _ in range(data.draw(st.integers(1, 4))):
            where = data.draw(st.integers(0, len(counts)))
            counts[where : where + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        try:
            decoded = rle.decode({"size": [9, 11], "counts": bytes(counts)}, (9, 11))
        except ValueError:
            return
        assert decoded.dtype == np.bool_
        assert decoded.shape == (9, 11)
        assert set(np.unique(decoded.view(np.uint8))) <= {0, 1}
        # The COCO library can also read what passes without leaving its buffer.
        theirs = coco_mask.decode({"size": [9, 11], "counts": bytes(counts)})
        np.testing.assert_array_equal(theirs.astype(bool), decoded)

    @given(counts=st.lists(st.integers(-(2**70), 2**70), max_size=12))
    @settings(max_examples=150, deadline=None)
    def test_lists_of_any_integers_are_masks_or_errors(self, counts: list[int]) -> None:
        valid = all(run >= 0 for run in counts) and sum(counts) == 99
        try:
            decoded = rle.decode({"size": [9, 11], "counts": counts}, (9, 11))
        except ValueError:
            assert not valid
        else:
            assert valid
            assert decoded.sum() == sum(counts[1::2])


def test_categories_select_objects(tmp_path: Path) -> None:
    save(picture(1), tmp_path / "images" / "1.png")
    annotations = [
        annotation(5, 1, box(0, 0, 5, 6), category_id=1),
        annotation(6, 1, box(6, 6, 5, 6), category_id=2),
        annotation(7, 1, box(12, 6, 5, 6), category_id=2, iscrowd=1),
    ]
    names = [{"id": number, "name": name} for number, name in enumerate(("cat", "dog", "bird"), start=1)]
    path = write_coco_json(tmp_path, [image_record(1, "1.png")], annotations)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"categories": names}))
    for wanted, found in {"": ["cat", "dog"], " cat ": ["cat"], "dog,cat": ["cat", "dog"]}.items():
        reader = open_reader("coco", str(tmp_path), options={"categories": wanted})
        (item,) = reader.items()
        sample = reader.load(item)
        assert [ref.category for ref in sample.objects] == found
        assert len(item.object_ids) == len(found)
        assert sample.ignore_mask.any() == ("dog" in found)
    with pytest.raises(InputError, match=r"has no cow; it has bird, cat, dog"):
        open_reader("coco", str(tmp_path), options={"categories": "cow,cat"}).items()
    assert list(open_reader("coco", str(tmp_path), options={"categories": "bird"}).items()) == []
