"""Reading image files of all supported formats and modes."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data import images
from pipeline.data.images import read_image, read_labels
from pipeline.data.mask_files import read_mask_file
from pipeline.data.orientation import read_header
from tests.pipeline.small_data import picture


def encode(image: Image.Image, file_format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_return_the_exact_pixels(file_format: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(encode(Image.fromarray(picture()), file_format))
    np.testing.assert_array_equal(read_image(path), picture())


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP"])
def test_lossy_formats_return_about_the_pixels(file_format: str) -> None:
    smooth = np.repeat(np.linspace(0, 250, 32).astype(np.uint8)[None, :, None], 3, axis=2).repeat(24, axis=0)
    back = read_image(encode(Image.fromarray(smooth), file_format, quality=95))
    assert back.shape == smooth.shape
    assert np.abs(back.astype(int) - smooth).max() < 12


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    gray = np.zeros((6, 8), np.uint8)
    gray[:, 4:] = 255
    if mode == "I;16":
        image = Image.fromarray(gray.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(gray).convert("RGB").convert(mode)
    rgb = read_image(encode(image, "TIFF" if mode == "CMYK" else "PNG"))
    assert rgb.dtype == np.uint8
    np.testing.assert_array_equal(rgb, np.repeat(gray[..., None], 3, axis=2))


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"quality": 30}, {"exif": b"Exif\0\0"}],
    ids=str,
)
def test_opencv_reads_jpegs_like_pillow(options: dict[str, object]) -> None:
    for hw in ((20, 30), (33, 47)):
        data = encode(Image.fromarray(picture(1, hw)), "JPEG", **options)
        assert images._read_plain_jpeg(data, hw) is not None
        np.testing.assert_array_equal(read_image(data), np.array(Image.open(io.BytesIO(data)).convert("RGB")))
        # Bytes after the end marker make Pillow read it.
        assert images._read_plain_jpeg(data + b"\0", hw) is None
        np.testing.assert_array_equal(read_image(data + b"\0"), read_image(data))


def test_sixteen_bit_images_keep_their_upper_eight_bits() -> None:
    deep = np.array([[0, 255, 256], [32768, 65279, 65535]], np.uint16)
    assert read_image(encode(Image.fromarray(deep)))[..., 0].tolist() == [[0, 0, 1], [128, 254, 255]]


def test_a_palette_with_transparency_becomes_rgb() -> None:
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    image.putpalette([200, 10, 20, 30, 40, 50])
    rgb = read_image(encode(image, transparency=bytes([0, 255])))
    assert rgb[0].tolist() == [[200, 10, 20], [30, 40, 50]]


def rotated(hw: tuple[int, int] = (20, 30)) -> bytes:
    """A photo to be rotated by 90 degrees (EXIF orientation 6)."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(Image.fromarray(picture(hw=hw)), exif=exif)


def test_the_declared_size_decides_about_the_orientation() -> None:
    stored = picture()
    np.testing.assert_array_equal(read_image(rotated()), stored)
    np.testing.assert_array_equal(read_image(rotated(), expected_hw=(20, 30)), stored)
    np.testing.assert_array_equal(read_image(rotated(), expected_hw=(30, 20)), np.rot90(stored, -1))
    np.testing.assert_array_equal(read_image(rotated(), upright=True), np.rot90(stored, -1))
    np.testing.assert_array_equal(read_image(rotated((9, 9)), expected_hw=(9, 9)), picture(hw=(9, 9)))
    with pytest.raises(ValueError, match=r"20 x 30 .*annotations are 20 x 31"):
        read_image(rotated(), expected_hw=(20, 31))


@pytest.mark.parametrize("read", [read_image, read_labels, read_mask_file, read_header])
def test_an_empty_file_is_named_as_such(read: Callable[[Path | bytes], object], tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    for source in (tmp_path / "a.png", b""):
        with pytest.raises(ValueError, match=r"the file is empty \(0 bytes\): expected an image"):
            read(source)


def test_files_that_are_not_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ValueError, match="is not an image"):
        read_image(b"hello")
    with pytest.raises(ValueError, match="is not an image"):
        read_image(encode(Image.fromarray(picture()), "GIF"))
    with pytest.raises(ValueError, match="broken"):
        read_image(tmp_path)
    with pytest.raises(ValueError, match="floating-point"):
        read_image(encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"))


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow warns about half a TIFF header before it raises
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_a_file_cut_anywhere_is_a_value_error(file_format: str) -> None:
    whole = encode(Image.fromarray(picture()), file_format)
    for end in range(0, int(0.9 * len(whole)), 37):
        with pytest.raises(ValueError, match=r"image"):
            read_image(whole[:end])


def test_the_pixel_limit_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    big = encode(Image.new("1", (9000, 9000)))
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded an image over the limit"))
    with pytest.raises(ValueError, match="9000 x 9000: the limit is 64 megapixels and it has 81; --max-mega"):
        read_image(big)


def test_labels_are_raw() -> None:
    values = np.array([[0, 1], [2, 255]], np.uint8)
    np.testing.assert_array_equal(read_labels(encode(Image.fromarray(values))), values)
    palette = Image.fromarray(values).convert("P")
    palette.putpalette([9, 9, 9, 8, 8, 8, 7, 7, 7] + [0] * 759)
    np.testing.assert_array_equal(read_labels(encode(palette)), values)
    assert read_labels(encode(palette), palette_index=False)[0, 0].tolist() == [9, 9, 9]
    deep = np.array([[0, 300], [65535, 7]], np.uint16)
    np.testing.assert_array_equal(read_labels(encode(Image.fromarray(deep))), deep)
    assert read_labels(encode(Image.fromarray(picture()))).shape == (20, 30, 3)
