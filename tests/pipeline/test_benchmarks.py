"""The data sets that papers evaluate on: each reader's rules, and the counts of objects on copies of the full layouts.

The copies have the published numbers of files, with a few pixels each. Real folders are counted in test_readers.py.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.errors import InputError
from pipeline.data.readers import open_reader
from pipeline.data.sample import BadItem, Reader
from tests.pipeline.small_data import (
    SMALL,
    box,
    bsds_truth,
    labelled,
    picture,
    save,
    save_mat,
    save_palette,
    sbd_instances,
)


def strip(num_objects: int) -> np.ndarray:
    """Labels 1..n side by side, after one column of background."""
    return np.tile(np.arange(num_objects + 1, dtype=np.uint8), (2, 1))


def spread(num_objects: int, num_images: int) -> list[int]:
    return [num_objects // num_images + (n < num_objects % num_images) for n in range(num_images)]


def full_pairs(root: Path, images: str, masks: str, num: int) -> list[int]:
    for folder in (images, masks):
        save(strip(1) * 255, root / folder / "0.png")
        data = (root / folder / "0.png").read_bytes()
        for number in range(1, num):
            (root / folder / f"{number}.png").write_bytes(data)
    return [1] * num


def full_sbd(root: Path) -> list[int]:
    objects = spread(6671, 2857)
    (root / "img").mkdir()
    for count in set(objects):
        save_mat(root / "inst" / f"{count}.mat", GTinst=sbd_instances(strip(count)))
    for number, count in enumerate(objects):
        (root / "inst" / f"2008_{number:06d}.mat").write_bytes((root / "inst" / f"{count}.mat").read_bytes())
    (root / "val.txt").write_text("".join(f"2008_{number:06d}\n" for number in range(len(objects))))
    return objects


def full_voc(root: Path) -> list[int]:
    """Ten images with 16 objects, two of which have the same gray: as many merge as the published counts differ."""
    objects = [16] * 10 + spread(3427 - 160, 1439)
    (root / "JPEGImages").mkdir()
    masks = root / "SegmentationObject"
    for number, count in enumerate(objects):
        save_palette(np.concatenate([strip(count), np.full((1, count + 1), 255, np.uint8)]), masks / f"{number}.png")
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(map(str, range(len(objects)))))
    return objects


def full_him2k(root: Path) -> list[int]:
    objects = spread(830, 320)
    for number, count in enumerate(objects):
        save(picture(hw=(2, 2)), root / "images" / "natural" / f"{number}.jpg")
        for person in range(count):
            save(np.full((2, 2), 255, np.uint8), root / "alphas" / "natural" / str(number) / f"{person}.png")
    return objects


FULL: dict[str, tuple[Callable[[Path], list[int]], int]] = {
    "grabcut": (lambda root: full_pairs(root, "data_GT", "boundary_GT", 50), 50),
    "berkeley": (lambda root: full_pairs(root, "images", "masks", 100), 100),
    "davis": (lambda root: full_pairs(root, "img", "gt", 345), 345),
    "coco_mval": (lambda root: full_pairs(root, "img", "gt", 800), 800),
    "sbd": (full_sbd, 6671),
    "pascal_voc": (full_voc, 3427),
    "him2k": (full_him2k, 830),
}


def counts(reader: Reader) -> list[int]:
    return [len(item.object_ids) for item in reader.items()]


@pytest.mark.networks
@pytest.mark.parametrize("name", FULL)
def test_full_layout_has_the_published_count(name: str, tmp_path: Path) -> None:
    build, expected = FULL[name]
    objects = build(tmp_path)
    found = counts(open_reader(name, str(tmp_path)))
    assert (sum(found), sorted(found)) == (expected, sorted(objects))
    if name == "pascal_voc":
        assert sum(counts(open_reader(name, str(tmp_path), options={"reading": "gray"}))) == 3417


class TestSbd:
    def test_every_number_is_an_object_and_the_folder_dataset_is_found(self, tmp_path: Path) -> None:
        SMALL["sbd"](tmp_path / "dataset")
        sample = (reader := open_reader("sbd", str(tmp_path), split="val")).load(reader.items()[1])
        assert [ref.id for ref in sample.objects] == ["2008_000002/1", "2008_000002/3"]
        np.testing.assert_array_equal(sample.object_mask(sample.objects[1]), box(7, 8, 9, 9))
        assert not sample.ignore_mask.any()

    def test_unusable_files_are_named_and_still_listed(self, tmp_path: Path) -> None:
        reader = SMALL["sbd"](tmp_path)
        good = sbd_instances(labelled({1: box(0, 0, 5, 6)}))
        stem = "2008_000001"
        save(picture(hw=(8, 8)), tmp_path / "img" / f"{stem}.jpg")
        with pytest.raises(BadItem, match="8 x 8"):
            reader.load(reader.items()[0])
        (tmp_path / "img" / f"{stem}.jpg").unlink()
        with pytest.raises(BadItem, match="does not exist"):
            reader.load(reader.items()[0])
        save(picture(), tmp_path / "img" / f"{stem}.jpg")
        path = tmp_path / "inst" / f"{stem}.mat"
        contents = {
            "no variable 'GTinst'": {"other": 1},
            "the field 'Segmentation'": {"GTinst": {"Labels": np.ones((2, 2))}},
            "a struct": {"GTinst": np.ones((2, 2))},
            r"the shape \(2, 3, 4\)": {"GTinst": {**good, "Segmentation": np.ones((2, 3, 4))}},
            "0 to 65535": {"GTinst": {**good, "Segmentation": np.full((20, 30), 0.5)}},
            "got complex128": {"GTinst": {**good, "Segmentation": np.full((20, 30), 1j)}},
        }
        for reason, variables in contents.items():
            save_mat(path, **variables)
            item = reader.items()[0]
            assert item.object_ids == (f"{stem}/unreadable",)
            with pytest.raises(BadItem, match=f"{stem}: .*{reason}"):
                reader.load(item)
        for data in (b"", b"no matlab file" * 50, save_mat(path, GTinst=good).read_bytes()[:150]):
            path.write_bytes(data)
            with pytest.raises(BadItem, match="cannot be read as a MATLAB file"):
                reader.load(reader.items()[0])
        path.unlink()
        with pytest.raises(BadItem, match="does not exist"):
            reader.load(reader.items()[0])

    def test_a_list_must_exist_and_hold_names_inside_the_folder(self, tmp_path: Path) -> None:
        reader = SMALL["sbd"](tmp_path)
        (tmp_path / "val.txt").write_text("../2008_000001\n")
        with pytest.raises(BadItem, match="leads out"):
            reader.load(reader.items()[0])
        (tmp_path / "val.txt").write_text("\n")
        with pytest.raises(InputError, match="is empty"):
            reader.items()
        (tmp_path / "val.txt").rename(tmp_path / "train.txt")
        with pytest.raises(InputError, match=r"no split 'val'.*splits found: train"):
            open_reader("sbd", str(tmp_path))


class TestPascalVoc:
    def test_gray_reading_merges_objects_that_palette_reading_separates(self, tmp_path: Path) -> None:
        SMALL["pascal_voc"](tmp_path / "VOCdevkit" / "VOC2012")
        palette = open_reader("pascal_voc", str(tmp_path))
        gray = open_reader("pascal_voc", str(tmp_path), options={"reading": "gray"})
        by_index, by_gray = (reader.load(reader.items()[0]) for reader in (palette, gray))
        assert [ref.id.split("/")[1] for ref in by_index.objects] == ["1", "2", "16"]
        np.testing.assert_array_equal(by_index.object_mask(by_index.objects[2]), box(10, 10, 8, 8))
        # Index 1 is (128, 0, 0), index 16 is (0, 64, 0): 0.299 and 0.587 of them round to the same 38.
        assert [ref.id.split("/")[1] for ref in by_gray.objects] == ["38", "75"]
        np.testing.assert_array_equal(by_gray.object_mask(by_gray.objects[0]), box(0, 0, 5, 6) | box(10, 10, 8, 8))
        for sample in (by_index, by_gray):
            np.testing.assert_array_equal(sample.ignore_mask, box(5, 0, 1, 6))

    def test_a_mask_of_the_other_kind_is_refused(self, tmp_path: Path) -> None:
        SMALL["pascal_voc"](tmp_path)
        masks = tmp_path / "SegmentationObject"
        with Image.open(masks / "2007_000033.png") as image:
            image.convert("RGB").save(masks / "2007_000033.png")
        save(labelled({1: box(0, 0, 5, 6)}), masks / "2007_000042.png")
        for reading, number, reason in (("palette", 0, "a PNG with a palette"), ("gray", 1, "got grays")):
            reader = open_reader("pascal_voc", str(tmp_path), options={"reading": reading})
            assert [item.object_ids[0].endswith("/unreadable") for item in reader.items()] == [not number, bool(number)]
            with pytest.raises(BadItem, match=reason):
                reader.load(reader.items()[number])
        with pytest.raises(InputError, match="expected palette or gray"):
            open_reader("pascal_voc", str(tmp_path), options={"reading": "colour"})


class TestBsds500:
    def test_an_object_is_a_region_on_which_two_people_agree(self, tmp_path: Path) -> None:
        reader = SMALL["bsds500"](tmp_path)
        item = reader.items()[0]
        # The boxes of 10 x 10 and 10 x 11 agree and overlap, so one stays; the corner is too small, the rest differs.
        assert item.object_ids == ("train/2092/0.3",)
        np.testing.assert_array_equal(reader.load(item).instance_masks[0] > 0, box(0, 0, 10, 10))
        strict = open_reader("bsds500", str(tmp_path), split="val", options={"min_agreement": "0.95"})
        assert [item.object_ids for item in strict.items()] == [()]
        small = open_reader("bsds500", str(tmp_path), split="val", options={"min_area_fraction": "0"})
        assert small.items()[0].object_ids == ("val/101085/0.5", "val/101085/0.3")

    def test_of_overlapping_regions_the_one_that_most_people_drew_is_kept(self, tmp_path: Path) -> None:
        SMALL["bsds500"](tmp_path)
        wide, narrow = labelled({1: box(0, 0, 10, 12)}), labelled({1: box(0, 0, 10, 10)})
        truth = bsds_truth(wide, narrow, labelled({1: box(0, 0, 10, 11)}))
        save_mat(tmp_path / "groundTruth" / "train" / "2092.mat", groundTruth=truth)
        assert open_reader("bsds500", str(tmp_path), split="train").items()[0].object_ids == ("train/2092/2.1",)

    def test_unusable_files_are_named(self, tmp_path: Path) -> None:
        reader = SMALL["bsds500"](tmp_path)
        path = tmp_path / "groundTruth" / "train" / "2092.mat"
        contents = {
            "of one size": bsds_truth(np.ones((4, 5)), np.ones((5, 4))),
            "the field 'Segmentation'": np.array([[np.ones(3), np.ones(4)]], object),
        }
        for reason, truth in contents.items():
            save_mat(path, groundTruth=truth)
            assert reader.items()[0].object_ids == ("train/2092/unreadable",)
            with pytest.raises(BadItem, match=f"train/2092: .*{reason}"):
                reader.load(reader.items()[0])
        save(picture(hw=(8, 8)), tmp_path / "images" / "val" / "101085.jpg")
        with pytest.raises(BadItem, match="8 x 8"):
            reader.load(reader.items()[1])
        with pytest.raises(InputError, match=r"expected less than max_area_fraction, which is 0\.0"):
            open_reader("bsds500", str(tmp_path), options={"max_area_fraction": "0"})


class TestHim2k:
    def test_the_threshold_on_alpha_makes_the_mask(self, tmp_path: Path) -> None:
        reader = SMALL["him2k"](tmp_path)
        one, two = reader.items()
        assert (one.object_ids, two.object_ids) == (("one/0",), ("two people/0", "two people/1"))
        sample = reader.load(two)
        assert [ref.category for ref in sample.objects] == ["person", "person"]
        np.testing.assert_array_equal(sample.object_mask(sample.objects[1]), box(4, 12, 6, 6))
        loose = open_reader("him2k", str(tmp_path), options={"alpha_above": "0"}).load(two)
        np.testing.assert_array_equal(loose.object_mask(loose.objects[1]), box(2, 11, 9, 9))
        with pytest.raises(InputError, match="expected a whole number >= 0 and <= 254"):
            open_reader("him2k", str(tmp_path), options={"alpha_above": "255"})

    def test_mattes_of_sixteen_bits_or_three_channels_equal_plain_ones(self, tmp_path: Path) -> None:
        reader = SMALL["him2k"](tmp_path)
        folder = tmp_path / "alphas" / "natural" / "two people"
        alpha = (box(2, 3, 9, 9) * 127 + box(4, 4, 6, 6) * 128).astype(np.uint8)
        save(alpha.astype(np.uint16) * 257, folder / "0.png")
        save(np.repeat(alpha[..., None], 3, axis=2), folder / "1.png")
        sample = reader.load(reader.items()[1])
        for ref in sample.objects:
            np.testing.assert_array_equal(sample.object_mask(ref), box(4, 4, 6, 6))

    def test_unusable_mattes_are_refused_alone_and_images_without_any_are_named(self, tmp_path: Path) -> None:
        reader = SMALL["him2k"](tmp_path)
        alphas = tmp_path / "alphas" / "natural"
        save(np.full((8, 8), 255, np.uint8), alphas / "two people" / "0.png")
        save(picture(), alphas / "two people" / "2.png")
        save(np.zeros((20, 30), np.uint8), alphas / "two people" / "3.png")
        (alphas / "two people" / "4.png").write_text("no image")
        sample = reader.load(reader.items()[1])
        assert [ref.id for ref in sample.objects] == ["two people/1"]
        reasons = ("8 x 8", "colours", "is not an image", "is empty")
        assert len(sample.refused) == len(reasons)
        for text, reason in zip(sample.refused, reasons, strict=True):
            assert reason in text
        (alphas / "one" / "0.png").unlink()
        item = reader.items()[0]
        assert item.object_ids == ("one/unreadable",)
        with pytest.raises(BadItem, match="missing or holds no PNG"):
            reader.load(item)
        save(picture(), tmp_path / "images" / "natural" / "one.png")
        with pytest.raises(InputError, match="occur twice"):
            reader.items()
