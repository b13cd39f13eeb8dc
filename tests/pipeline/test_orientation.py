"""Photos with an EXIF orientation: each kind of data set is read as it means them, and masks lie on their objects."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from models.decoding import Decoding
from pipeline.data import rle
from pipeline.data.images import read_image
from pipeline.data.orientation import Header, read_header, turned
from pipeline.data.readers import coco_tables, open_reader
from pipeline.data.sample import BadItem
from tests.pipeline.small_data import image_record, picture
from tests.pipeline.turned import (
    COCO,
    KEEP_SIZE,
    LABEL_STUDIO,
    TURNS,
    UP,
    photo,
    polygon,
    scene,
    share_on_object,
    warnings,
    write_coco,
)


class TestPixels:
    @pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
    @pytest.mark.parametrize("orientation", [1, *TURNS])
    def test_a_photo_is_read_upright_or_as_it_is_stored(
        self, orientation: int, file_format: str, tmp_path: Path
    ) -> None:
        upright, _ = scene()
        stored = photo(tmp_path / "a", upright, orientation, file_format)
        np.testing.assert_array_equal(read_image(tmp_path / "a", upright=True), upright)
        np.testing.assert_array_equal(read_image(tmp_path / "a", decoding=Decoding(exif="upright")), upright)
        np.testing.assert_array_equal(read_image(tmp_path / "a"), stored)
        np.testing.assert_array_equal(
            read_image(tmp_path / "a", upright=True, decoding=Decoding(exif="stored")), stored
        )
        header = read_header(tmp_path / "a")
        assert (header.hw, header.upright_hw, header.orientation) == (stored.shape[:2], UP, orientation)

    @pytest.mark.parametrize("orientation", TURNS)
    def test_jpegs_are_read_upright_or_as_stored(self, orientation: int, tmp_path: Path) -> None:
        upright, _ = scene((32, 48))
        photo(tmp_path / "a", upright, orientation, "JPEG")
        with Image.open(tmp_path / "a") as image:
            np.testing.assert_array_equal(read_image(tmp_path / "a"), np.array(image))
            expected = np.array(ImageOps.exif_transpose(image))
        np.testing.assert_array_equal(read_image((tmp_path / "a").read_bytes(), upright=True), expected)

    def test_labels_of_any_depth_rotate_like_images(self) -> None:
        labels = np.arange(6, dtype=np.int64).reshape(2, 3)
        for orientation in TURNS:
            there = turned(labels, Header(hw=(2, 3), orientation=orientation), True)
            back = turned(there, Header(hw=(2, 3), orientation=orientation, decoded_upright=True), False)
            np.testing.assert_array_equal(back, labels)
            assert there.dtype == np.int64

    def test_png_orientations_are_found_before_and_after_the_pixels(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def chunks(data: bytes) -> list[bytes]:
            found, at = [], 8
            while at < len(data):
                size = 12 + int.from_bytes(data[at : at + 4])
                found.append(data[at : at + size])
                at += size
            return found

        exif = Image.Exif()
        exif[0x0112] = 6
        buffer = io.BytesIO()
        Image.fromarray(picture()).save(buffer, "PNG", exif=exif)
        data = buffer.getvalue()
        tells = next(chunk for chunk in chunks(data) if chunk[4:8] == b"eXIf")
        rest = [chunk for chunk in chunks(data) if chunk != tells]
        behind = data[:8] + b"".join([*rest[:-1], tells, rest[-1]])
        np.testing.assert_array_equal(read_image(behind, upright=True), np.rot90(picture(), -1))
        without = data[:8] + b"".join(rest)
        monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded a PNG to read its header"))
        assert read_header(without).orientation == 1
        assert read_header(data).orientation == 6

    @pytest.mark.filterwarnings("ignore:Corrupt EXIF")
    def test_invalid_orientations_are_ignored(self, tmp_path: Path) -> None:
        for number in (0, 9, 77):
            exif = Image.Exif()
            exif[0x0112] = number
            Image.fromarray(picture()).save(tmp_path / "a.png", exif=exif)
            np.testing.assert_array_equal(read_image(tmp_path / "a.png", upright=True), picture())
        Image.fromarray(picture()).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0")
        assert read_image(tmp_path / "a.jpg", upright=True).shape == (20, 30, 3)

    def test_a_choice_that_annotations_contradict_is_refused(self, tmp_path: Path) -> None:
        upright, _ = scene()
        photo(tmp_path / "a", upright, 6)
        with pytest.raises(
            ValueError, match=r"exif=stored was given.*30 x 20.*fit the photo upright \(EXIF orientation 6\)"
        ):
            read_image(tmp_path / "a", expected_hw=UP, decoding=Decoding(exif="stored"))
        with pytest.raises(ValueError, match=r"exif=upright was given.*20 x 30.*as it is stored"):
            read_image(tmp_path / "a", expected_hw=(20, 30), decoding=Decoding(exif="upright"))


class TestLabelStudio:
    """Its COCO export declares the size of the stored pixels; polygons are percent of the upright photo times that."""

    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize("orientation", TURNS)
    def test_polygons_lie_on_the_upright_photo(
        self,
        orientation: int,
        streamed: bool,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(coco_tables, "STREAM_ABOVE", 0 if streamed else 1 << 30)
        for hw in (UP, (24, 24)):
            upright, mask = scene(hw)
            stored = photo(tmp_path / "images" / "a.png", upright, orientation)
            scale_xy = (stored.shape[1] / hw[1], stored.shape[0] / hw[0])
            record = image_record(0, "images\\a.png", (stored.shape[0], stored.shape[1]))
            reader = write_coco(tmp_path, [record], [[polygon(mask, scale_xy)]], LABEL_STUDIO)
            sample = reader.load(reader.items()[0])
            np.testing.assert_array_equal(sample.image, upright)
            np.testing.assert_array_equal(sample.object_mask(sample.objects[0]), mask)
        assert not warnings(caplog)

    @pytest.mark.parametrize("contributor", ["Label Studio", "Label Studio Converter"])
    def test_a_declared_upright_size_fits_too(self, contributor: str, tmp_path: Path) -> None:
        """It is declared if Label Studio could not open the file, and always in exports of brushes."""
        upright, mask = scene()
        photo(tmp_path / "images" / "a.png", upright, 6)
        record = image_record(0, "a.png", UP)
        reader = write_coco(tmp_path, [record], [[polygon(mask)]], {**LABEL_STUDIO, "contributor": contributor})
        sample = reader.load(reader.items()[0])
        assert share_on_object(sample) == 1
        np.testing.assert_array_equal(sample.image, upright)

    def test_run_lengths_must_have_the_upright_size(self, tmp_path: Path) -> None:
        upright, mask = scene()
        photo(tmp_path / "images" / "a.png", upright, 6)
        record = image_record(0, "a.png", (20, 30))
        for segmentation, reason in ((rle.encode(mask), ""), (rle.encode(mask.T.copy()), "the RLE size is [20, 30]")):
            reader = write_coco(tmp_path, [record], [segmentation], LABEL_STUDIO)
            sample = reader.load(reader.items()[0])
            if reason:
                assert reason in sample.refused[0]
            else:
                np.testing.assert_array_equal(sample.object_mask(sample.objects[0]), mask)

    def test_a_size_that_fits_neither_way_is_refused(self, tmp_path: Path) -> None:
        photo(tmp_path / "images" / "a.png", scene()[0], 6)
        reader = write_coco(tmp_path, [image_record(0, "a.png", (20, 31))], [[polygon(scene()[1])]], LABEL_STUDIO)
        with pytest.raises(BadItem, match="its annotations are 20 x 31"):
            reader.load(reader.items()[0])

    @pytest.mark.parametrize("orientation", [1, *TURNS])
    def test_rotated_photos_are_refused_with_exif_stored(self, orientation: int, tmp_path: Path) -> None:
        """This holds for every declared size, because the polygons fit the upright photo."""
        upright, mask = scene()
        stored = photo(tmp_path / "images" / "a.png", upright, orientation)
        scale_xy = (stored.shape[1] / UP[1], stored.shape[0] / UP[0])
        for size, scale in ((stored.shape[:2], scale_xy), (UP, (1.0, 1.0)), (None, (1.0, 1.0))):
            record = {"id": 0, "file_name": "a.png"} if size is None else image_record(0, "a.png", size)
            write_coco(tmp_path, [record], [[polygon(mask, scale)]], LABEL_STUDIO)
            reader = open_reader("coco", str(tmp_path), decoding=Decoding(exif="stored"))
            if orientation == 1:
                assert share_on_object(reader.load(reader.items()[0])) == 1
                continue
            with pytest.raises(
                BadItem,
                match=rf"exif=stored was given.*upright photo.*\(EXIF orientation {orientation}\).*exif=upright",
            ):
                reader.load(reader.items()[0])

    def test_exif_upright_changes_nothing(self, tmp_path: Path) -> None:
        upright, mask = scene()
        photo(tmp_path / "images" / "a.png", upright, 6)
        write_coco(tmp_path, [image_record(0, "a.png", (20, 30))], [[polygon(mask, (1.5, 2 / 3))]], LABEL_STUDIO)
        reader = open_reader("coco", str(tmp_path), decoding=Decoding(exif="upright"))
        np.testing.assert_array_equal(reader.load(reader.items()[0]).image, upright)

    @pytest.mark.parametrize("orientation", [1, *TURNS])
    def test_ambiguous_polygons_without_a_size_are_refused(self, orientation: int, tmp_path: Path) -> None:
        """For a photo rotated by 90 degrees, the missing size may be that of either way up."""
        upright, mask = scene()
        stored = photo(tmp_path / "images" / "a.png", upright, orientation)
        record = {"id": 0, "file_name": "a.png"}
        scale_xy = (stored.shape[1] / UP[1], stored.shape[0] / UP[0])
        reader = write_coco(tmp_path, [record], [[polygon(mask, scale_xy)]], LABEL_STUDIO)
        sample = reader.load(reader.items()[0])
        np.testing.assert_array_equal(sample.image, upright)
        if orientation in (1, *KEEP_SIZE):
            assert share_on_object(sample) == 1
        else:
            assert "no width and height" in sample.refused[0]
        reader = write_coco(tmp_path, [record], [rle.encode(mask)], LABEL_STUDIO)
        assert share_on_object(reader.load(reader.items()[0])) == 1


class TestCoco:
    @pytest.mark.parametrize("streamed", [False, True])
    def test_undecided_photos_are_read_upright_with_one_warning(
        self, streamed: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As CVAT means them: mirrored photos, photos rotated by 180 degrees, and square ones."""
        monkeypatch.setattr(coco_tables, "STREAM_ABOVE", 0 if streamed else 1 << 30)
        images, polygons = [], []
        for orientation in (1, *TURNS):
            hw = UP if orientation in (1, *KEEP_SIZE) else (24, 24)
            upright, mask = scene(hw)
            photo(tmp_path / "images" / f"{orientation}.png", upright, orientation)
            images.append(image_record(orientation, f"{orientation}.png", hw))
            polygons.append([polygon(mask)])
        reader = write_coco(tmp_path, images, polygons, attributes={"occluded": False})
        for item in reader.items():
            assert share_on_object(reader.load(item)) == 1, item.id
        (text,) = warnings(caplog)
        assert "7 photos carry an EXIF orientation" in text
        assert "read upright" in text
        assert "--exif" in text

    def test_decided_photos_decide_for_their_file(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """One photo of the file is rotated by 90 degrees and declared as it is stored."""
        upright, mask = scene()
        for name, orientation in (("quarter", 6), ("half", 3)):
            photo(tmp_path / "images" / f"{name}.png", upright, orientation)
        images = [image_record(1, "quarter.png", (20, 30)), image_record(2, "half.png", UP)]
        stored = np.rot90(mask, 1), np.rot90(mask, 2)
        reader = write_coco(tmp_path, images, [[polygon(one)] for one in stored])
        assert [share_on_object(reader.load(item)) for item in reader.items()] == [1, 1]
        (text,) = warnings(caplog)
        assert "1 photos" in text
        assert "as they are stored, like those whose masks show it" in text

    def test_photos_that_disagree_decide_nothing(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        upright, mask = scene()
        for name, orientation in (("a", 6), ("b", 8), ("half", 3)):
            photo(tmp_path / "images" / f"{name}.png", upright, orientation)
        images = [image_record(1, "a.png", (20, 30)), image_record(2, "b.png", UP), image_record(3, "half.png", UP)]
        polygons = [[polygon(one)] for one in (np.rot90(mask, 1), mask, mask)]
        reader = write_coco(tmp_path, images, polygons)
        assert [share_on_object(reader.load(item)) for item in reader.items()] == [1, 1, 1]
        (text,) = warnings(caplog)
        assert "the others disagree: 1 upright, 1 as stored" in text

    @pytest.mark.parametrize("published", ["info", "coco_url", "lvis"])
    def test_published_files_mean_stored_pixels(
        self, published: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        upright, mask = scene()
        stored = photo(tmp_path / "images" / "a.png", upright, 3)
        record = image_record(1, "a.png")
        record |= {"height": 30, "width": 20, "coco_url": ""}
        if published == "coco_url":
            record["coco_url"] = "http://images.cocodataset.org/train2017/000000000009.jpg"
        reader = write_coco(tmp_path, [record], [[polygon(np.rot90(mask, 2))]], COCO if published == "info" else None)
        if published == "lvis":
            (tmp_path / "result.json").rename(tmp_path / "lvis_v1_val.json")
            reader = open_reader("lvis", str(tmp_path))
        sample = reader.load(reader.items()[0])
        np.testing.assert_array_equal(sample.image, stored)
        assert share_on_object(sample) == 1
        # Other tools may have copied COCO's info, so the photos are checked.
        assert ["1 photos" in text for text in warnings(caplog)] == [True] * (published == "info")

    def test_an_explicit_choice_wins_without_a_warning(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        upright, mask = scene()
        stored = photo(tmp_path / "images" / "a.png", upright, 3)
        photo(tmp_path / "images" / "b.png", upright, 6)
        write_coco(tmp_path, [image_record(1, "a.png", UP), image_record(2, "b.png", UP)], [[polygon(mask)]] * 2, COCO)
        half, quarter = open_reader("coco", str(tmp_path), options={"exif": "upright"}).items()
        for exif, pixels in (("upright", upright), ("stored", stored)):
            reader = open_reader("coco", str(tmp_path), options={"exif": exif})
            np.testing.assert_array_equal(reader.load(reader.items()[0]).image, pixels)
        with pytest.raises(BadItem, match="exif=stored was given"):
            reader.load(quarter)
        assert half.payload["upright"]
        assert not warnings(caplog)

    def test_an_item_of_an_older_plan_is_read_as_it_was(self, tmp_path: Path) -> None:
        upright, mask = scene()
        stored = photo(tmp_path / "images" / "a.png", upright, 3)
        reader = write_coco(tmp_path, [image_record(1, "a.png", UP)], [[polygon(mask)]])
        (item,) = reader.items()
        del item.payload["upright"]
        np.testing.assert_array_equal(reader.load(item).image, stored)
