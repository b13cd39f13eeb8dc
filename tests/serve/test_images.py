import base64
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from serve.core.problems import Problem
from serve.wire import images
from tests.serve.conftest import encoded, picture

LIMIT = 64_000_000
EXIF_TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
}


def code_of(data: bytes, max_pixels: int = LIMIT) -> str:
    with pytest.raises(Problem) as caught:
        images.decode_image(data, max_pixels)
    return caught.value.code


@pytest.mark.check(5)
@pytest.mark.parametrize("orientation", sorted(EXIF_TURNS))
def test_exif_orientation_is_applied(orientation: int) -> None:
    image = picture()
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = images.decode_image(encoded(image, exif=exif.tobytes()), LIMIT)
    np.testing.assert_array_equal(decoded, EXIF_TURNS[orientation](image))


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
def test_lossless_formats_keep_every_pixel(format: str) -> None:
    options = {"lossless": True} if format == "WEBP" else {}
    np.testing.assert_array_equal(images.decode_image(encoded(picture(), format, **options), LIMIT), picture())


@pytest.mark.check(5)
def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    grey = np.linspace(0, 65535, 40 * 60).reshape(40, 60).astype(np.uint16)
    decoded = images.decode_image(encoded(Image.fromarray(grey)), LIMIT)
    np.testing.assert_array_equal(decoded, np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2))


@pytest.mark.check(5)
def test_palette_and_bilevel_keep_their_colors() -> None:
    palette = Image.fromarray(picture()).quantize(16)
    np.testing.assert_array_equal(images.decode_image(encoded(palette), LIMIT), np.asarray(palette.convert("RGB")))
    bits = picture()[..., 0] > 127
    decoded = images.decode_image(encoded(Image.fromarray(bits)), LIMIT)
    np.testing.assert_array_equal(decoded, np.repeat(bits[..., None] * np.uint8(255), 3, axis=2))


@pytest.mark.check(5)
@pytest.mark.parametrize("mode", ["LA", "RGBA", "L"])
def test_alpha_is_dropped(mode: str) -> None:
    grey = Image.fromarray(picture()[..., 0]).convert(mode)
    decoded = images.decode_image(encoded(grey), LIMIT)
    np.testing.assert_array_equal(decoded, np.repeat(picture()[..., :1], 3, axis=2))


@pytest.mark.check(5)
def test_cmyk_jpeg_has_the_right_colors() -> None:
    red = Image.new("CMYK", (16, 8), (0, 255, 255, 0))
    decoded = images.decode_image(encoded(red, "JPEG", quality=95), LIMIT)
    assert decoded.shape == (8, 16, 3)
    np.testing.assert_allclose(decoded.reshape(-1, 3).mean(0), [255, 0, 0], atol=6)


@pytest.mark.check(5)
def test_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    np.testing.assert_array_equal(images.decode_image(data, LIMIT)[0, 0], [255, 0, 0])


@pytest.mark.check(3)
@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "ICO", "PPM"])
def test_other_formats_are_refused(format: str) -> None:
    assert code_of(encoded(picture(32, 32), format)) == "unsupported_image"


@pytest.mark.parametrize("data", [b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.7", b"8BPS", b"x"])
def test_files_that_are_not_images_are_refused(data: bytes) -> None:
    assert code_of(data) == "unsupported_image"


@pytest.mark.check(3)
def test_the_list_of_formats_is_short() -> None:
    assert set(images.FORMATS) == {"JPEG", "PNG", "WEBP"}
    assert {images.sniff(encoded(picture(), format)) for format in images.FORMATS} == set(images.FORMATS)


def test_an_empty_image_is_missing() -> None:
    assert code_of(b"") == "image_missing"


@pytest.mark.check(4)
@pytest.mark.parametrize("format", images.FORMATS)
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_truncated_images_are_bad(format: str, keep: float) -> None:
    data = encoded(picture(), format)
    assert code_of(data[: int(len(data) * keep)]) == "bad_image"


@pytest.mark.check(4)
def test_damage_anywhere_is_answered_without_a_crash() -> None:
    rng = np.random.default_rng(1)
    whole = [encoded(picture(), format) for format in images.FORMATS]
    outcomes = set()
    for index in range(300):
        data = np.frombuffer(whole[index % 3], np.uint8).copy()
        data[rng.integers(12, len(data), 8)] = rng.integers(0, 256, 8)
        try:
            outcomes.add(images.decode_image(data.tobytes(), LIMIT).dtype)
        except Problem as problem:
            outcomes.add(problem.code)
    assert outcomes <= {np.dtype(np.uint8), "bad_image", "image_too_large"}
    assert "bad_image" in outcomes


def bomb(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.check(2)
@pytest.mark.parametrize(("width", "height"), [(8001, 8000), (12_000, 12_000), (60_000, 60_000), (2**31 - 1, 2)])
def test_too_many_pixels_are_refused_from_the_header(width: int, height: int) -> None:
    # The file has no pixels, so a decoder would find it damaged.
    assert code_of(bomb(width, height)) == "image_too_large"
    assert code_of(bomb(80, 80)) == "bad_image"


@pytest.mark.check(2)
@pytest.mark.parametrize("format", images.FORMATS)
def test_the_limit_may_be_higher_than_pillows(format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data, mask = encoded(picture(), format), encoded(Image.new("1", (60, 40)))
    expected = images.decode_image(data, LIMIT)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # it warns beyond, and refuses beyond twice as many
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(images.decode_image(data, 2400), expected)
        assert images.image_hw(data, 2400) == (40, 60)
        assert images.decode_mask_png(mask, (40, 60)).shape == (40, 60)
        with pytest.raises(Problem, match=r"60 x 40|too large") as caught:
            images.decode_image(data, 900)
    assert caught.value.code == "image_too_large"
    assert "--max-megapixels raises it" in caught.value.detail
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.check(30)
def test_messages_contain_no_python_objects() -> None:
    with pytest.raises(Problem) as caught:
        images.decode_image(b"\x89PNG\r\n\x1a\n" + b"\0" * 40, LIMIT)
    assert "0x" not in caught.value.detail
    assert "BytesIO" not in caught.value.detail


def test_masks_survive_the_png() -> None:
    for mask in (picture()[..., 0] > 99, np.zeros((3, 5), bool), np.ones((7, 9), bool)):
        data = images.encode_mask_png(mask)
        assert Image.open(io.BytesIO(data)).mode == "1"
        hw = (mask.shape[0], mask.shape[1])
        np.testing.assert_array_equal(images.decode_mask_png(data, hw), mask)
        eight = encoded(Image.fromarray(mask.astype(np.uint8) * 255))
        np.testing.assert_array_equal(images.decode_mask_png(eight, hw), mask)


@pytest.mark.parametrize(
    "data",
    [
        encoded(np.full((40, 60), 7, np.uint8)),
        encoded(picture()),
        encoded(np.zeros((40, 61), np.uint8)),
        encoded(np.zeros((40, 60), np.uint8), "JPEG"),
        encoded(np.zeros((40, 60), np.uint8))[:60],
    ],
    ids=["values", "colors", "size", "jpeg", "truncated"],
)
def test_bad_masks_are_refused(data: bytes) -> None:
    with pytest.raises(Problem) as caught:
        images.decode_mask_png(data, (40, 60))
    assert caught.value.code == "bad_mask"


def test_base64_and_data_uris() -> None:
    data = encoded(picture())
    text = base64.b64encode(data).decode()
    assert images.from_base64(text) == data
    assert images.from_base64(f"data:image/png;base64,{text}") == data
    assert images.from_base64("\n".join(text[i : i + 76] for i in range(0, len(text), 76))) == data


@pytest.mark.check(8)
@pytest.mark.parametrize(
    "text",
    [
        "***",
        "abc",
        "data:image/png,plain",
        "data:;;;",
        "data:image/jpeg;base64," + base64.b64encode(encoded(picture())).decode(),
        "ünicode",
    ],
)
def test_bad_encodings_are_refused(text: str) -> None:
    with pytest.raises(Problem) as caught:
        images.from_base64(text)
    assert caught.value.code == "bad_encoding"
