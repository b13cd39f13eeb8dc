"""One limit of pixels, which an option raises beyond Pillow's; a larger image is too large, not broken."""

import threading
import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from models.decoding import Decoding
from models.image_files import allowing
from pipeline.data.images import read_image, read_labels
from pipeline.data.orientation import Header, read_header
from pipeline.data.prepared import schema
from pipeline.data.readers import open_reader
from pipeline.data.readers.mat_files import label_map
from pipeline.data.sample import BadItem, Origin
from tests.deep_files import png16, values
from tests.pipeline.fakes import fake_sample
from tests.pipeline.small_data import picture
from tests.pipeline.test_images import encode

FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "TIFF"]


@pytest.mark.check(2)
@pytest.mark.parametrize("size", [(12_000, 9000), (20_000, 10_000)], ids=["Pillow warns", "Pillow refuses"])
@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_a_huge_image_is_too_large_and_not_broken(file_format: str, size: tuple[int, int]) -> None:
    huge = encode(Image.new("1", size), file_format, **({"compression": "group4"} if file_format == "TIFF" else {}))
    has = size[0] * size[1] // 1_000_000
    words = f"{size[0]} x {size[1]}: the limit is 64 megapixels and it has {has}; --max-megapixels raises it"
    for read in (read_image, read_labels):
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nor is a file broken for which Pillow warns
            with pytest.raises(ValueError, match=words):
                read(huge)


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_limit_may_be_higher_than_pillows(file_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(
        Image.fromarray(picture(hw=(60, 80))), file_format, **({"lossless": True} if file_format == "WEBP" else {})
    )
    expected = read_image(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow warns above this and refuses above twice as many
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(read_image(data, decoding=Decoding(max_megapixels=1)), expected)
        np.testing.assert_array_equal(read_image(data, upright=True), expected)
        assert read_labels(data).shape == (60, 80, 3)
    assert Image.MAX_IMAGE_PIXELS == 1000, "other code keeps its protection"


def test_the_header_of_a_huge_photo_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(encode(Image.fromarray(picture())))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_header(tmp_path / "a.png") == Header(hw=picture().shape[:2])


def test_just_above_the_limit_does_not_read_as_the_limit() -> None:
    with pytest.raises(ValueError, match=r"1001 x 1000: the limit is 1 megapixels and it has 1\.1"):
        read_image(encode(Image.new("1", (1001, 1000))), decoding=Decoding(max_megapixels=1))
    assert read_image(encode(Image.new("1", (1000, 1000))), decoding=Decoding(max_megapixels=1)).shape == (
        1000,
        1000,
        3,
    )


def test_pillows_limit_is_put_back_after_the_last_of_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    inside, leave = threading.Barrier(4), [threading.Event() for _ in range(3)]

    def reader(number: int) -> None:
        with allowing(2000 * (number + 1)):
            inside.wait(10)
            leave[number].wait(10)

    threads = [threading.Thread(target=reader, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    inside.wait(10)
    for number in (2, 0, 1):  # the largest first: the others still need theirs
        assert Image.MAX_IMAGE_PIXELS == 6000
        leave[number].set()
        threads[number].join()
    assert Image.MAX_IMAGE_PIXELS == 1000
    with allowing(900):
        assert Image.MAX_IMAGE_PIXELS == 1000
    with pytest.raises(RuntimeError), allowing(9000):
        raise RuntimeError
    assert Image.MAX_IMAGE_PIXELS == 1000


def test_what_opencv_does_not_read_is_said_or_read_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise cv2.error("CV_IO_MAX_IMAGE_PIXELS")

    plain, deep = encode(Image.fromarray(picture()), "JPEG"), png16(values(12, (8, 8, 3)))
    expected = read_image(plain)
    monkeypatch.setattr("cv2.imdecode", refuse)
    np.testing.assert_array_equal(read_image(plain), expected)
    with pytest.raises(ValueError, match="16-bit colours cannot be read"):
        read_image(deep)


def test_readers_take_the_limit(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        Image.new("L", (1100, 1000), 255).save(tmp_path / name / "a.png")
    reader = open_reader("masks", str(tmp_path), options={"max_megapixels": "1"})
    with pytest.raises(BadItem, match=r"1100 x 1000: the limit is 1 megapixels and it has 1\.1; --max-megapixels"):
        reader.load(reader.items()[0])
    reader = open_reader("masks", str(tmp_path), decoding=Decoding(max_megapixels=2))
    assert reader.load(reader.items()[0]).image.shape == (1000, 1100, 3)
    assert label_map(np.ones((1000, 1100)), Decoding(max_megapixels=2)).shape == (1000, 1100)
    with pytest.raises(ValueError, match="1100 x 1000: the limit is 1 "):
        label_map(np.ones((1000, 1100)), Decoding(max_megapixels=1))


def test_a_shard_keeps_the_bytes_of_a_file_beyond_the_usual_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    sample = fake_sample("s", 1)
    path = tmp_path / "a.png"
    path.write_bytes(encode(Image.fromarray(sample.image)))
    assert schema.encode_image(replace(sample, origin=Origin(file=str(path)))) == path.read_bytes()
