"""YOLO segmentation labels, and folders of a mask per object: rules, refusals and real data sets."""

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.errors import InputError
from pipeline.data.readers import open_reader, yolo
from pipeline.data.sample import BadItem, Sample
from tests.pipeline.small_data import HW, SMALL, box, picture, save, yolo_line
from tests.pipeline.test_readers import REAL

SQUARE = "0 0.1 0.2 0.5 0.2 0.5 0.6 0.1 0.6"


def one(root: Path, text: str, image: str = "a.png") -> Sample:
    if not (root / "images" / image).exists():
        save(picture(), root / "images" / image)
    (root / "labels").mkdir(exist_ok=True)
    (root / "labels" / "a.txt").write_text(text)
    reader = open_reader("yolo", str(root))
    return reader.load(reader.items()[0])


class TestYolo:
    def test_lines_are_objects_in_fractions_of_the_size(self, tmp_path: Path) -> None:
        reader = SMALL["yolo"](tmp_path)
        items = reader.items()
        assert [(item.id, item.object_ids) for item in items] == [
            ("train/a", ("train/a/1",)),
            ("train/b", ("train/b/1", "train/b/3", "train/b/4")),
            ("val/c", ()),
        ]
        sample = reader.load(items[1])
        assert [(ref.id, ref.category) for ref in sample.objects] == [("train/b/1", "dog"), ("train/b/4", "cat")]
        np.testing.assert_array_equal(sample.object_mask(sample.objects[0]), box(4, 6, 11, 13))
        assert sample.refused[0].startswith("train/b/3: the line is a box")
        assert [ref.category for ref in reader.load(items[0]).objects] == ["2"]
        assert reader.load(items[2]).objects == ()

    @pytest.mark.parametrize("form", ["images/{split}|labels/{split}", "{split}/images|{split}/labels"])
    def test_both_layouts_of_splits(self, form: str, tmp_path: Path) -> None:
        for number, split in enumerate(("train", "valid")):
            images, labels = (tmp_path / part for part in form.format(split=split).split("|"))
            save(picture(number), images / "deep" / "a.png")
            (labels / "deep").mkdir(parents=True)
            (labels / "deep" / "a.txt").write_text(SQUARE)
        (item,) = open_reader("yolo", str(tmp_path), split="valid").items()
        assert (item.id, item.object_ids) == ("deep/a", ("deep/a/1",))
        with pytest.raises(InputError, match="splits found: train, valid"):
            open_reader("yolo", str(tmp_path), split="test")
        if form.startswith("{"):
            with pytest.raises(InputError, match="name one of train, valid"):
                open_reader("yolo", str(tmp_path))
        else:
            assert len(open_reader("yolo", str(tmp_path)).items()) == 2

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("0 0.5 0.5 0.2 0.2", "a box"),
            ("0", "0 numbers after the class"),
            ("0 0.1 0.2 0.5", "3 numbers"),
            ("0 0.1 0.2 0.5 0.2 0.5 0.6 0.1", "7 numbers"),
            ("0 0.1 0.2 0.5 x 0.5 0.6", "to float: 'x'): expected class x1 y1"),
            ("0,0.1,0.2,0.5,0.2,0.5,0.6", "the line holds commas: expected"),
            ("0 0,1 0,2 0,5 0,2", "the line holds commas: expected"),
            ("0 0.1, 0.2, 0.5, 0.2, 0.5, 0.6", "the line holds commas: expected"),
            ("0 0.1 0.2 nan 0.2 0.5 0.6", "far outside"),
            ("0 0.1 0.2 inf 0.2 0.5 0.6", "far outside"),
            ("0 10 20 50 20 50 60", "fractions of its size"),
            ("0 0.1 0.2 0.5 0.2 0.5 -0.6", "far outside"),
            ("0 0.11 0.1 0.11 0.1 0.11 0.1", "the mask is empty"),
            ("0 0.3 0.4 0.4 0.4 0.1 0.2 0.5 0.6", "4 numbers after the class"),
        ],
    )
    def test_a_broken_line_is_refused_alone(self, line: str, reason: str, tmp_path: Path) -> None:
        sample = one(tmp_path, f"{SQUARE}\n{line}\n")
        assert [ref.id for ref in sample.objects] == ["a/1"]
        assert len(sample.refused) == 1
        assert sample.refused[0].startswith("a/2: ")
        assert reason in sample.refused[0]

    def test_corners_a_little_outside_are_cut(self, tmp_path: Path) -> None:
        sample = one(tmp_path, "0 -0.01 0 1.001 -0.2 1.3 1 0 1.0001")
        assert sample.object_mask(sample.objects[0]).all()

    @given(mask=st.tuples(st.integers(0, 19), st.integers(0, 29), st.integers(1, 20), st.integers(1, 30)))
    @settings(max_examples=60, deadline=None)
    def test_boxes_come_back_by_their_edges_and_by_their_pixels(self, mask: tuple[int, int, int, int]) -> None:
        y, x, height, width = mask
        bottom, right = min(y + height, HW[0]), min(x + width, HW[1])
        expected = box(y, x, bottom - y, right - x)
        edges = [(x / 30, y / 20), (right / 30, y / 20), (right / 30, bottom / 20), (x / 30, bottom / 20)]
        _, read = yolo._polygon(yolo_line(0, *edges), HW, "edges")
        np.testing.assert_array_equal(read, expected)
        bottom, right = bottom - 1, right - 1
        pixels = [(x / 30, y / 20), (right / 30, y / 20), (right / 30, bottom / 20), (x / 30, bottom / 20)]
        for corners in ("pixels", "auto"):
            _, read = yolo._polygon(yolo_line(0, *pixels), HW, corners)
            np.testing.assert_array_equal(read, expected)

    def test_whole_corners_are_pixels_and_others_are_edges(self) -> None:
        traced = "0 0.1 0.2 0.5 0.2 0.5 0.6"
        for drawn in ("0 0.1 0.2 0.51 0.2 0.5 0.6", "0 0.1 0.2 1 0.2 0.5 0.6"):
            by_rule = {
                line: [yolo._polygon(line, HW, corners)[1] for corners in ("auto", "pixels", "edges")]
                for line in (traced, drawn)
            }
            for line, same, other in ((traced, 1, 2), (drawn, 2, 1)):
                np.testing.assert_array_equal(by_rule[line][0], by_rule[line][same])
                assert (by_rule[line][0] != by_rule[line][other]).any()

    def test_a_box_before_its_polygon_is_left_out_and_reported_once(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        save(picture(), tmp_path / "images" / "b.png")
        (tmp_path / "labels").mkdir()
        (tmp_path / "labels" / "b.txt").write_text(SQUARE)
        corners = SQUARE.split(" ", 1)[1]
        with caplog.at_level(logging.WARNING):
            sample = one(tmp_path, f"0 0.3 0.4 0.4 0.4 {corners}\n1 0.300 0.401 0.4 0.399 {corners}\n2 {corners}\n")
        assert [ref.id for ref in sample.objects] == ["a/1", "a/2", "a/3"]
        for ref in sample.objects:
            np.testing.assert_array_equal(sample.object_mask(ref), box(4, 3, 9, 13))
        (text,) = caplog.messages
        assert "2 lines in 1 files are a box followed by its polygon" in text
        assert "(a.txt)" in text

    @pytest.mark.parametrize("side", [20, 100, 400])
    @pytest.mark.parametrize("orientation", [1, 6])
    def test_a_box_may_count_the_pixels_of_a_small_image(
        self, side: int, orientation: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Like OpenCV's boundingRect around a traced contour: max - min + 1, in an image `side` wide."""
        hw = (side * 2, side)
        save(picture(0, hw if orientation == 1 else (side, side * 2)), tmp_path / "images" / "a.png")
        with Image.open(tmp_path / "images" / "a.png") as image:
            exif = Image.Exif()
            exif[0x0112] = orientation
            image.save(tmp_path / "images" / "a.png", exif=exif)
        mask = box(hw[0] // 4, side // 4, hw[0] // 2, side // 2, hw)
        y, x = np.nonzero(mask)
        corners = np.array([(x.min(), y.min()), (x.max(), y.min()), (x.max(), y.max()), (x.min(), y.max())]) / hw[::-1]
        values = [0.5, 0.5, 0.5, 0.5, *corners.ravel()]
        with caplog.at_level(logging.WARNING):
            sample = one(tmp_path, " ".join(["0", *(f"{value:.6f}" for value in values)]))
        np.testing.assert_array_equal(sample.object_mask(sample.objects[0]), mask)
        (text,) = caplog.messages
        assert "1 lines in 1 files are a box followed by its polygon" in text

    def test_images_are_opened_for_their_size_only_where_a_line_may_begin_with_a_box(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one(tmp_path, SQUARE)
        monkeypatch.setattr(yolo, "read_header", lambda path: pytest.fail("opened an image"))
        assert len(open_reader("yolo", str(tmp_path)).items()) == 1

    def test_a_polygon_whose_first_corners_are_no_box_keeps_them(self) -> None:
        """Centre and size lie among the corners of an object near the origin; both must be those of its box."""
        rest = [0.02, 0.02, 0.1, 0.02, 0.1, 0.1, 0.02, 0.1]
        for x, y, width, height in ((0.06, 0.06, 0.09, 0.08), (0.05, 0.06, 0.08, 0.08), (0.06, 0.06, 0.08, 0.09)):
            texts = [f"{value:.6f}" for value in (x, y, width, height, *rest)]
            assert not yolo._starts_with_box(texts, (600, 600))
        assert yolo._starts_with_box([f"{value:.6f}" for value in (0.06, 0.06, 0.08, 0.08, *rest)], (600, 600))
        assert not yolo._starts_with_box(["nan"] * 10, (600, 600))
        assert not yolo._starts_with_box(["0.06", "0.06", "0.08", "0.08", *map(str, rest), "0.9"], (600, 600))

    @given(
        hw=st.tuples(st.integers(30, 2000), st.integers(30, 2000)),
        corners=st.lists(st.tuples(st.floats(0.05, 0.95), st.floats(0.05, 0.95)), min_size=3, max_size=30),
        decimals=st.integers(3, 9),
        in_pixels=st.booleans(),
    )
    @settings(max_examples=200, deadline=None)
    def test_boxes_as_tools_write_them_are_recognised(
        self, hw: tuple[int, int], corners: list[tuple[float, float]], decimals: int, in_pixels: bool
    ) -> None:
        """Exact boxes, or boxes of whole pixels as OpenCV draws around a traced contour, which are a pixel larger."""
        xy = np.array(corners)
        low, high = xy.min(axis=0), xy.max(axis=0)
        if in_pixels:
            size = np.array([hw[1], hw[0]])
            xy = np.rint(xy * size) / size
            low, high = xy.min(axis=0), xy.max(axis=0) + 1 / size
        if (high - low).min() < 0.05:
            return
        values = [*((low + high) / 2), *(high - low), *xy.ravel()]
        assert yolo._starts_with_box([f"{value:.{decimals}f}" for value in values], hw)

    @given(
        hw=st.sampled_from([(16, 16), (32, 48), (480, 640), (2000, 3000)]),
        seed=st.integers(0, 1 << 30),
        made=st.sampled_from(["floors", "rounded", "sides", "counted"]),
    )
    @settings(max_examples=200, deadline=None)
    def test_boxes_of_whole_pixels_around_corners_between_them_are_recognised(
        self, hw: tuple[int, int], seed: int, made: str
    ) -> None:
        """Like COCO's boxes when they are stored as integers, also around objects a few pixels wide."""
        rng = np.random.default_rng(seed)
        size = np.array([hw[1], hw[0]])
        span = rng.uniform(1, np.minimum(size, rng.choice([4, 40, 3000])))
        xy = rng.uniform(0, size - span) + rng.uniform(0, 1, (9, 2)) * span
        low, high = xy.min(axis=0), xy.max(axis=0)
        start = np.rint(low) if made == "rounded" else np.floor(low)
        sides = {
            "floors": np.floor(high - low),
            "rounded": np.rint(high - low),
            "sides": np.ceil(high) - start,
            "counted": np.floor(high) - start + 1,
        }[made]
        if sides.min() < 1:
            return
        polygon = [f"{value:.6f}" for value in (xy / size).ravel()]
        box_of = [f"{value:.6f}" for value in [*((start + sides / 2) / size), *(sides / size)]]
        assert yolo._starts_with_box([*box_of, *polygon], hw)
        assert yolo._starts_with_box([*box_of, *polygon], (16, 16), loosely=True), "its image is opened"
        for off in (-3, 3) if hw[0] < 1000 else ():  # a thousandth of the image is never much
            moved = [f"{value:.6f}" for value in [*((start + off + sides / 2) / size), *(sides / size)]]
            assert not yolo._starts_with_box([*moved, *polygon], hw)

    def test_an_integer_box_of_a_small_object_is_left_out_and_reported(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        corners = "0.37 0.33 0.43 0.33 0.43 0.42 0.37 0.42"
        line = f"0 {11.5 / HW[1]:.6f} {6.5 / HW[0]:.6f} {1 / HW[1]:.6f} {1 / HW[0]:.6f}"
        with caplog.at_level(logging.WARNING):
            sample = one(tmp_path, f"{line} {corners}\n0 {corners}\n")
        first, second = (sample.object_mask(ref) for ref in sample.objects)
        np.testing.assert_array_equal(first, second)
        assert "1 lines in 1 files are a box followed by its polygon" in caplog.text

    def test_an_unknown_rule_for_corners_is_refused(self, tmp_path: Path) -> None:
        SMALL["yolo"](tmp_path)
        with pytest.raises(InputError, match="expected auto, pixels or edges"):
            open_reader("yolo", str(tmp_path), options={"corners": "middle"})

    def test_detection_labels_are_refused_as_a_whole(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="are detection boxes"):
            one(tmp_path, "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.1 0.1\n")

    def test_an_unreadable_label_file_is_a_bad_item(self, tmp_path: Path) -> None:
        one(tmp_path, SQUARE)
        save(picture(), tmp_path / "images" / "b.png")
        (tmp_path / "labels" / "b.txt").write_bytes(b"\xff\xfe0 0.1")
        reader = open_reader("yolo", str(tmp_path))
        item = reader.items()[1]
        assert item.object_ids == ("b/unreadable",)
        with pytest.raises(BadItem, match="cannot be read as text"):
            reader.load(item)

    def test_other_folders_and_faults(self, tmp_path: Path) -> None:
        one(tmp_path, SQUARE)
        (tmp_path / "labels" / "a.txt").rename(tmp_path / "labels" / "z.txt")
        with pytest.raises(InputError, match="none of the 1 images"):
            open_reader("yolo", str(tmp_path)).items()
        (tmp_path / "labels").rename(tmp_path / "polygons")
        save(picture(), tmp_path / "images" / "z.png")
        assert len(open_reader("yolo", str(tmp_path), options={"labels": "polygons"}).items()) == 2
        save(picture(), tmp_path / "images" / "z.bmp")
        with pytest.raises(InputError, match="share one label file"):
            open_reader("yolo", str(tmp_path), options={"labels": "polygons"}).items()

    @pytest.mark.parametrize(
        ("text", "outcome"),
        [
            ("names: [cat, dog]", "cat"),
            ("names:\n  0: cat", "cat"),
            ("names:\n  '0': 7", "7"),
            ("nc: 3", "0"),
            ("- a", "0"),
            ("names: cat", "expected a list or a table"),
            ("names: [[1]]", "expected a list or a table"),
            ("names: [", "cannot be read as YAML"),
            ("names: !!python/object/apply:os.system ['true']", "cannot be read as YAML"),
        ],
    )
    def test_class_names(self, text: str, outcome: str, tmp_path: Path) -> None:
        (tmp_path / "data.yaml").write_text(text)
        if "expected" in outcome or "cannot" in outcome:
            with pytest.raises(InputError, match=outcome):
                one(tmp_path, SQUARE)
        else:
            assert one(tmp_path, SQUARE).objects[0].category == outcome

    @pytest.mark.parametrize(("orientation", "hw"), [(6, (30, 20)), (3, (20, 30)), (1, HW)])
    def test_photos_are_read_upright(self, orientation: int, hw: tuple[int, int], tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        (tmp_path / "images").mkdir()
        Image.fromarray(picture()).save(tmp_path / "images" / "a.png", exif=exif)
        sample = one(tmp_path, SQUARE)
        turns = {1: 0, 6: -1, 3: 2}[orientation]
        np.testing.assert_array_equal(sample.image, np.rot90(picture(), turns))
        assert sample.image.shape[:2] == hw

    @pytest.mark.networks
    def test_real_polygons_are_the_panoptic_masks(self) -> None:
        root = REAL / "coco_panoptic200"
        if not root.is_dir():
            pytest.skip("coco_panoptic200 is not in MASKWRIGHT_DATA")
        reader = open_reader("yolo", str(root), options={"labels": "instance_yolo_labels"})
        panoptic = open_reader("coco_panoptic", str(root))
        segments = {f"{item.id.split('/')[0]}/{int(item.id.split('/')[1]):012d}": item for item in panoptic.items()}
        items = reader.items()
        assert len(items) == 200
        # 1447 objects, and the crowds of these photos.
        assert sum(len(item.object_ids) for item in items) == 1458
        ious = []
        for item in items[::10]:
            sample, truth = reader.load(item), panoptic.load(segments[item.id])
            assert sample.refused == ()
            np.testing.assert_array_equal(sample.image, truth.image)
            masks = [*(truth.object_mask(ref) for ref in truth.objects), truth.ignore_mask]
            for ref in sample.objects:
                mask = sample.object_mask(ref)
                ious.append(max((mask & other).sum() / (mask | other).sum() for other in masks))
        assert len(ious) > 80
        assert np.median(ious) > 0.98
        assert np.mean(ious) > 0.95


class TestMaskFolders:
    def test_each_file_is_an_object(self, tmp_path: Path) -> None:
        reader = SMALL["nuclei"](tmp_path)
        first, second = reader.items()
        assert (first.object_ids, second.object_ids) == (("a1/m0",), ("b7/m0", "b7/m1"))
        sample = reader.load(second)
        np.testing.assert_array_equal(sample.object_mask(sample.objects[1]), box(2, 11, 9, 6))
        assert sample.refused == ()

    def test_unusable_items_and_masks_are_named(self, tmp_path: Path) -> None:
        SMALL["nuclei"](tmp_path)
        base = tmp_path / "stage1_train"
        save(np.ones((4, 4), np.uint8), base / "b7" / "masks" / "small.png")
        save(np.zeros(HW, np.uint8), base / "b7" / "masks" / "void.png")
        (base / "b7" / "masks" / "text.png").write_text("no image")
        (base / "b7" / "masks" / "notes.txt").write_text("left out")
        save(picture(), base / "alone" / "images" / "x.png")
        save(picture(), base / "twice" / "images" / "x.png")
        save(picture(), base / "twice" / "images" / "y.png")
        save(box(1, 1, 2, 2).astype(np.uint8), base / "twice" / "masks" / "x.png")
        save(box(1, 1, 2, 2).astype(np.uint8), base / "lost" / "masks" / "x.png")
        reader = open_reader("nuclei", str(tmp_path), split="stage1_train")
        items = {item.id: item for item in reader.items()}
        assert sorted(items) == ["a1", "alone", "b7", "twice"]
        sample = reader.load(items["b7"])
        assert [ref.id for ref in sample.objects] == ["b7/m0", "b7/m1"]
        reasons = dict(text.split(": ", 1) for text in sample.refused)
        assert reasons["b7/small"] == "the mask is 4 x 4, its image 20 x 30"
        assert reasons["b7/void"] == "the mask is empty"
        assert "not an image" in reasons["b7/text"]
        with pytest.raises(BadItem, match=r"no mask: expected alone/masks/\*\.png"):
            reader.load(items["alone"])
        with pytest.raises(BadItem, match="expected one image, found 2"):
            reader.load(items["twice"])

    def test_patterns_find_images_and_masks(self, tmp_path: Path) -> None:
        save(picture(), tmp_path / "rgb" / "x.1.jpg")
        for name in ("p", "q"):
            save((box(1, 1, 5, 5) * 200).astype(np.uint8), tmp_path / "rgb_parts" / f"x.1_{name}.png")
        options = {"images": "rgb/{name}.jpg", "masks": "rgb_parts/{name}_*.png", "rule": "above:127"}
        reader = open_reader("mask_folders", str(tmp_path), options=options)
        (item,) = reader.items()
        assert item.object_ids == ("x.1/x.1_p", "x.1/x.1_q")
        assert [int(reader.load(item).object_mask(ref).sum()) for ref in reader.load(item).objects] == [25, 25]

    @pytest.mark.parametrize(
        "options",
        [
            {"images": "images/*"},
            {"masks": "{name}/{name}"},
            {"masks": "../{name}/*"},
            {"masks": "/{name}/*"},
            {"images": "**/{name}"},
            {"rule": "ids"},
            {"rule": "what"},
        ],
    )
    def test_invalid_options_are_refused(self, options: dict[str, str], tmp_path: Path) -> None:
        SMALL["nuclei"](tmp_path)
        with pytest.raises(InputError, match="expected"):
            open_reader("mask_folders", str(tmp_path), options=options)

    def test_splits_and_empty_sets(self, tmp_path: Path) -> None:
        SMALL["nuclei"](tmp_path)
        save(picture(), tmp_path / "other" / "a" / "images" / "a.png")
        with pytest.raises(InputError, match="name one of other, stage1_train"):
            open_reader("nuclei", str(tmp_path))
        with pytest.raises(InputError, match="none of the 1 images"):
            open_reader("nuclei", str(tmp_path), split="other").items()
        assert len(open_reader("nuclei", str(tmp_path / "stage1_train")).items()) == 2
