"""Photos with an EXIF orientation: how each kind of data set means them, and that masks lie on their objects."""

import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from models.decoding import Decoding
from models.errors import InputError
from pipeline.data import rle
from pipeline.data.images import read_image
from pipeline.data.orientation import Header, read_header, turned
from pipeline.data.prepared.manifest import MANIFEST
from pipeline.data.prepared.prepare import prepare, run_here
from pipeline.data.prepared.storage import Storage
from pipeline.data.readers import coco_tables, open_reader
from pipeline.data.sample import BadItem, Reader, Sample
from tests.pipeline.small_data import image_record, picture, save

UP = (30, 20)
"""Size of the upright photos: portraits."""
TURNS = (2, 3, 4, 5, 6, 7, 8)
KEEP_SIZE = (2, 3, 4)
LABEL_STUDIO = {"year": 2024, "version": "1.0", "description": "", "contributor": "Label Studio", "url": ""}
COCO = {"description": "COCO 2017 Dataset", "url": "http://cocodataset.org", "contributor": "COCO Consortium"}


def scene(hw: tuple[int, int] = UP) -> tuple[np.ndarray, np.ndarray]:
    """An upright photo, noise with a bright object that lies in one corner, and its mask."""
    mask = np.zeros(hw, bool)
    mask[2 : hw[0] // 3, 3 : hw[1] // 2] = True
    image = picture(1, hw) // 4
    image[mask] = 250
    return image, mask


def photo(path: Path, upright: np.ndarray, orientation: int, file_format: str = "PNG") -> np.ndarray:
    """Save a photo as a camera does: its pixels as they are stored, which are returned, and how to turn them."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    kept = np.asarray(upright)
    for stored in (kept, np.rot90(kept, 1), np.rot90(kept, 2), np.rot90(kept, 3)):
        for mirrored in (stored, stored[:, ::-1]):
            image = Image.fromarray(np.ascontiguousarray(mirrored))
            image.getexif()[0x0112] = orientation
            if np.array_equal(np.array(ImageOps.exif_transpose(image)), kept):
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path, file_format, exif=exif, **({"lossless": True} if file_format == "WEBP" else {}))
                return np.array(image)
    raise AssertionError(orientation)


def save_mask(mask: np.ndarray, path: Path) -> None:
    save(np.where(mask, 255, 0).astype(np.uint8), path)


def share_on_object(sample: Sample) -> float:
    """How much of the mask lies on the bright object."""
    mask = sample.object_mask(sample.objects[0])
    return float((sample.image[mask].min(axis=1) > 200).mean())


def polygon(mask: np.ndarray, scale_xy: tuple[float, float] = (1, 1)) -> list[float]:
    y, x = np.nonzero(mask)
    corners = [(x.min(), y.min()), (x.max() + 1, y.min()), (x.max() + 1, y.max() + 1), (x.min(), y.max() + 1)]
    return [float(value) for corner in corners for value in np.multiply(corner, scale_xy)]


def write_coco(
    root: Path, images: Sequence[dict[str, Any]], segmentations: Sequence[Any], info: Any = None, **more: Any
) -> Reader:
    """One annotation an image; `info` stands at the end of the file, as Label Studio puts it."""
    annotations = [
        {"id": n, "image_id": image["id"], "category_id": 0, "segmentation": segmentation, **more}
        for n, (image, segmentation) in enumerate(zip(images, segmentations, strict=True))
    ]
    data = {"images": list(images), "categories": [], "annotations": annotations}
    (root / "result.json").write_text(json.dumps(data if info is None else {**data, "info": info}))
    return open_reader("coco", str(root))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in caplog.messages if "EXIF" in text]


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
    def test_a_jpeg_too(self, orientation: int, tmp_path: Path) -> None:
        upright, _ = scene((32, 48))
        photo(tmp_path / "a", upright, orientation, "JPEG")
        with Image.open(tmp_path / "a") as image:
            np.testing.assert_array_equal(read_image(tmp_path / "a"), np.array(image))
            expected = np.array(ImageOps.exif_transpose(image))
        np.testing.assert_array_equal(read_image((tmp_path / "a").read_bytes(), upright=True), expected)

    def test_labels_of_any_depth_turn_like_pictures(self) -> None:
        labels = np.arange(6, dtype=np.int64).reshape(2, 3)
        for orientation in TURNS:
            there = turned(labels, Header(hw=(2, 3), orientation=orientation), True)
            back = turned(there, Header(hw=(2, 3), orientation=orientation, decoded_upright=True), False)
            np.testing.assert_array_equal(back, labels)
            assert there.dtype == np.int64

    def test_a_png_may_tell_it_in_front_behind_or_not_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
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
    def test_an_orientation_that_is_none_or_broken_changes_nothing(self, tmp_path: Path) -> None:
        for number in (0, 9, 77):
            exif = Image.Exif()
            exif[0x0112] = number
            Image.fromarray(picture()).save(tmp_path / "a.png", exif=exif)
            np.testing.assert_array_equal(read_image(tmp_path / "a.png", upright=True), picture())
        Image.fromarray(picture()).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0")
        assert read_image(tmp_path / "a.jpg", upright=True).shape == (20, 30, 3)

    def test_a_choice_that_its_annotations_contradict_is_refused_with_the_reason(self, tmp_path: Path) -> None:
        upright, _ = scene()
        photo(tmp_path / "a", upright, 6)
        with pytest.raises(
            ValueError, match=r"exif=stored was given.*30 x 20.*the photo upright \(EXIF orientation 6\)"
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
    def test_the_upright_size_is_declared_where_it_could_not_open_the_file(
        self, contributor: str, tmp_path: Path
    ) -> None:
        """And always by its export of brushes, which are contours in pixels of the upright photo."""
        upright, mask = scene()
        photo(tmp_path / "images" / "a.png", upright, 6)
        record = image_record(0, "a.png", UP)
        reader = write_coco(tmp_path, [record], [[polygon(mask)]], {**LABEL_STUDIO, "contributor": contributor})
        sample = reader.load(reader.items()[0])
        assert share_on_object(sample) == 1
        np.testing.assert_array_equal(sample.image, upright)

    def test_run_lengths_have_a_size_of_their_own(self, tmp_path: Path) -> None:
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

    def test_a_size_of_neither_is_refused(self, tmp_path: Path) -> None:
        photo(tmp_path / "images" / "a.png", scene()[0], 6)
        reader = write_coco(tmp_path, [image_record(0, "a.png", (20, 31))], [[polygon(scene()[1])]], LABEL_STUDIO)
        with pytest.raises(BadItem, match="its annotations are 20 x 31"):
            reader.load(reader.items()[0])

    @pytest.mark.parametrize("orientation", [1, *TURNS])
    def test_turned_photos_are_refused_as_they_are_stored(self, orientation: int, tmp_path: Path) -> None:
        """Whatever size is declared: the polygons are of the upright photo."""
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

    def test_upright_is_what_it_means_anyway(self, tmp_path: Path) -> None:
        upright, mask = scene()
        photo(tmp_path / "images" / "a.png", upright, 6)
        write_coco(tmp_path, [image_record(0, "a.png", (20, 30))], [[polygon(mask, (1.5, 2 / 3))]], LABEL_STUDIO)
        reader = open_reader("coco", str(tmp_path), decoding=Decoding(exif="upright"))
        np.testing.assert_array_equal(reader.load(reader.items()[0]).image, upright)

    @pytest.mark.parametrize("orientation", [1, *TURNS])
    def test_polygons_without_a_size_are_refused_where_it_matters(self, orientation: int, tmp_path: Path) -> None:
        """Of a photo turned by a quarter, the size that they are times may be that of either way up."""
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
    def test_where_nothing_tells_photos_are_upright_and_one_line_says_so(
        self, streamed: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As CVAT means them: mirrored ones, those turned by half, and square ones."""
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

    def test_photos_that_tell_settle_it_for_their_file(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """One of the file is turned by a quarter, and declared as it is stored."""
        upright, mask = scene()
        for name, orientation in (("quarter", 6), ("half", 3)):
            photo(tmp_path / "images" / f"{name}.png", upright, orientation)
        images = [image_record(1, "quarter.png", (20, 30)), image_record(2, "half.png", UP)]
        stored = np.rot90(mask, 1), np.rot90(mask, 2)
        reader = write_coco(tmp_path, images, [[polygon(one)] for one in stored])
        assert [share_on_object(reader.load(item)) for item in reader.items()] == [1, 1]
        (text,) = warnings(caplog)
        assert "1 photos" in text
        assert "as they are stored, as those are whose masks tell it" in text

    def test_photos_that_disagree_settle_nothing(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        upright, mask = scene()
        for name, orientation in (("a", 6), ("b", 8), ("half", 3)):
            photo(tmp_path / "images" / f"{name}.png", upright, orientation)
        images = [image_record(1, "a.png", (20, 30)), image_record(2, "b.png", UP), image_record(3, "half.png", UP)]
        polygons = [[polygon(one)] for one in (np.rot90(mask, 1), mask, mask)]
        reader = write_coco(tmp_path, images, polygons)
        assert [share_on_object(reader.load(item)) for item in reader.items()] == [1, 1, 1]
        (text,) = warnings(caplog)
        assert "others tell both: 1 upright, 1 as stored" in text

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
        # Anyone may have copied COCO's info, so that the photos are looked at.
        assert ["1 photos" in text for text in warnings(caplog)] == [True] * (published == "info")

    def test_a_choice_wins_and_is_not_warned_of(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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


def masks_folder(root: Path, photos: dict[str, tuple[int, bool]], file_format: str = "PNG") -> None:
    """Photos by name, with their orientation and whether their mask is of the upright photo."""
    upright, mask = scene()
    for name, (orientation, of_upright) in photos.items():
        stored = photo(root / "images" / f"{name}.png", upright, orientation, file_format)
        label = mask if of_upright else np.all(stored > 200, axis=2)
        save_mask(label, root / "masks" / f"{name}.png")


class TestMasks:
    def test_folders_of_masks_are_of_upright_photos(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        masks_folder(tmp_path, {f"o{n}": (n, True) for n in (1, *TURNS)})
        reader = open_reader("masks", str(tmp_path))
        for item in reader.items():
            assert share_on_object(reader.load(item)) == 1, item.id
        (text,) = warnings(caplog)
        assert "3 photos" in text
        assert "read upright, as those are" in text

    def test_photos_that_tell_settle_it(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        masks_folder(tmp_path, {"quarter": (6, False), "half": (3, False), "plain": (1, True)})
        reader = open_reader("masks", str(tmp_path))
        assert [share_on_object(reader.load(item)) for item in reader.items()] == [1, 1, 1]
        assert len(warnings(caplog)) == 1

    def test_published_sets_are_read_as_they_are_stored(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        masks_folder(tmp_path, {"quarter": (6, True), "half": (3, False)})
        for folder, name in (("images", "img"), ("masks", "gt")):
            (tmp_path / folder).rename(tmp_path / name)
        reader = open_reader("davis", str(tmp_path))
        assert [share_on_object(reader.load(item)) for item in reader.items()] == [1, 1]
        assert not warnings(caplog)

    def test_a_choice_wins(self, tmp_path: Path) -> None:
        masks_folder(tmp_path, {"half": (3, True), "quarter": (6, True)})
        reader = open_reader("masks", str(tmp_path), options={"exif": "stored"})
        half, quarter = reader.items()
        assert share_on_object(reader.load(half)) == 0
        with pytest.raises(BadItem, match=r"quarter: image quarter.png: exif=stored was given.*upright"):
            reader.load(quarter)

    @pytest.mark.parametrize("orientation", [3, 6])
    def test_a_mask_may_have_an_orientation_of_its_own(self, orientation: int, tmp_path: Path) -> None:
        """As the photo has, whose pixels it was copied from."""
        upright, mask = scene()
        photo(tmp_path / "images" / "a.png", upright, orientation)
        photo(tmp_path / "masks" / "a.png", mask.astype(np.uint8) * 255, orientation)
        for exif in ("auto", "upright", "stored"):
            reader = open_reader("masks", str(tmp_path), options={"exif": exif, "rule": "ids"})
            assert share_on_object(reader.load(reader.items()[0])) == 1


def mask_per_object(root: Path, orientation: int, upright_masks: bool = True, folder: str = "a") -> None:
    upright, mask = scene()
    stored = photo(root / folder / "images" / "a.png", upright, orientation)
    label = mask if upright_masks else np.all(stored > 200, axis=2)
    save_mask(label, root / folder / "masks" / "one.png")


class TestMaskFolders:
    @pytest.mark.parametrize("name", ["nuclei", "mask_folders"])
    @pytest.mark.parametrize("orientation", TURNS)
    def test_turned_photos_are_read(self, orientation: int, name: str, tmp_path: Path) -> None:
        mask_per_object(tmp_path, orientation)
        reader = open_reader(name, str(tmp_path))
        sample = reader.load(reader.items()[0])
        assert sample.refused == ()
        assert share_on_object(sample) == 1

    def test_masks_of_stored_pixels_settle_it(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        mask_per_object(tmp_path, 6, False)
        mask_per_object(tmp_path, 3, False, "b")
        reader = open_reader("nuclei", str(tmp_path))
        assert [share_on_object(reader.load(item)) for item in reader.items()] == [1, 1]
        (text,) = warnings(caplog)
        assert "1 photos" in text

    def test_masks_that_do_not_fit_as_most_do_are_refused_alone(self, tmp_path: Path) -> None:
        mask_per_object(tmp_path, 6)
        for number, hw in enumerate((UP, UP, (20, 30), (9, 9))):
            save(np.ones(hw, np.uint8), tmp_path / "a" / "masks" / f"m{number}.png")
        reader = open_reader("nuclei", str(tmp_path))
        sample = reader.load(reader.items()[0])
        assert [ref.id for ref in sample.objects] == ["a/m0", "a/m1", "a/one"]
        assert [text.split(":")[0] for text in sample.refused] == ["a/m2", "a/m3"]
        reader = open_reader("nuclei", str(tmp_path), options={"exif": "stored"})
        sample = reader.load(reader.items()[0])
        assert [ref.id for ref in sample.objects] == ["a/m2"]
        assert "exif=stored was given" in sample.refused[0]

    @pytest.mark.parametrize("orientation", TURNS)
    def test_mattes_too(self, orientation: int, tmp_path: Path) -> None:
        """HIM2K is published: where nothing tells, as it is stored."""
        upright, mask = scene()
        stored = photo(tmp_path / "images" / "natural" / "a.png", upright, orientation)
        label = np.all(stored > 200, axis=2) if orientation in KEEP_SIZE else mask
        save_mask(label, tmp_path / "alphas" / "natural" / "a" / "0.png")
        reader = open_reader("him2k", str(tmp_path))
        sample = reader.load(reader.items()[0])
        assert share_on_object(sample) == 1
        assert sample.refused == ()


class TestPrepared:
    @pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF"])
    def test_what_was_turned_comes_back_turned(self, file_format: str, tmp_path: Path) -> None:
        masks_folder(tmp_path / "source", {f"o{n}": (n, True) for n in (1, *TURNS)}, file_format)
        for exif in ("auto", "upright", "stored"):
            reader = open_reader("masks", str(tmp_path / "source"), options={"exif": exif})
            out = tmp_path / exif
            settings = {"reader": "masks", "exif": exif}
            prepare(reader, Storage(str(out)), settings, run=run_here(2), items_per_part=3)
            assert json.loads((out / MANIFEST).read_text())["settings"]["exif"] == exif
            usable = {item.id: item for item in reader.items()}
            found = open_reader("prepared", str(out), options={"exif": exif})
            assert len(found.items()) == (8 if exif != "stored" else 4)
            for item in found.items():
                sample, expected = found.load(item), reader.load(usable[item.id])
                np.testing.assert_array_equal(sample.image, expected.image)
                np.testing.assert_array_equal(sample.instance_masks, expected.instance_masks)

    def test_a_choice_made_too_late_is_refused(self, tmp_path: Path) -> None:
        masks_folder(tmp_path / "source", {"a": (3, True)})
        reader = open_reader("masks", str(tmp_path / "source"))
        prepare(reader, Storage(str(tmp_path / "out")), {"exif": "auto"}, run=run_here())
        with pytest.raises(InputError, match=r"exif is stored.*\(by auto\): prepare it again with --exif stored"):
            open_reader("prepared", str(tmp_path / "out"), options={"exif": "stored"})

    def test_shards_of_before_are_read_as_they_were_with_one_warning(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        masks_folder(tmp_path / "source", {"half": (3, True), "plain": (1, True), "quarter": (6, True)})
        reader = open_reader("masks", str(tmp_path / "source"), options={"exif": "auto"})
        items = reader.items()
        for item in items:
            del item.payload["upright"]

        class Before:
            """Lists what a plan of before holds."""

            def items(self) -> Any:
                return items

            load = reader.load

        prepare(Before(), Storage(str(tmp_path / "out")), {"reader": "masks"}, run=run_here())
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = open_reader("prepared", str(tmp_path / "out"))
            samples = [found.load(item) for item in found.items()]
            assert len(found.items()) == 3
        np.testing.assert_array_equal(samples[0].image, np.rot90(scene()[0], 2))
        np.testing.assert_array_equal(samples[2].image, scene()[0])
        (text,) = warnings(caplog)
        assert "of 3 photos looked at, 1 carry an EXIF orientation" in text
