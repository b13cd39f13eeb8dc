"""Images of 10, 12, 14 and 16 bits: shown in full, or refused with advice."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.decoding import Decoding
from models.errors import InputError
from models.pixels import is_negative
from models.storage import Storage
from pipeline.data.images import read_image
from pipeline.data.prepared.manifest import MANIFEST
from pipeline.data.prepared.prepare import prepare, run_here
from pipeline.data.readers import open_reader
from pipeline.data.readers.mask_rule import MaskRule
from pipeline.saved import Settings
from tests.deep_files import png16, tiff, tiff_of_cmyk, values
from tests.pipeline.test_images import encode

SHAPES = [(20, 30), (20, 30, 3), (20, 30, 4)]


def shown(pixels: np.ndarray, bits: int) -> np.ndarray:
    """Return the image of values that use this many bits."""
    eight = (np.minimum(pixels.astype(int), (1 << bits) - 1) >> (bits - 8)).astype(np.uint8)
    return np.repeat(eight[..., None], 3, axis=2) if eight.ndim == 2 else eight[..., :3]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_images_show_the_bits_that_their_file_uses(bits: int, shape: tuple[int, ...], tmp_path: Path) -> None:
    pixels = values(bits, shape)
    (tmp_path / "a.png").write_bytes(png16(pixels))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), shown(pixels, bits))
    for big in (False, True):
        np.testing.assert_array_equal(read_image(tiff(pixels, big=big)), shown(pixels, bits))


def test_data_of_twelve_bits_are_not_black() -> None:
    ramp = np.linspace(0, 4095, 600).reshape(20, 30).astype(np.uint16)
    assert read_image(png16(ramp)).mean() == pytest.approx(127.5, abs=1)
    assert read_image(png16(ramp), decoding=Decoding(bit_depth=16)).mean() < 8, "as a file of the whole range"


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_given_depth_makes_larger_values_white(bits: int, shape: tuple[int, ...]) -> None:
    for used in (8, 12, 16):
        pixels = values(used, shape)
        for data in (png16(pixels), tiff(pixels)):
            picture = read_image(data, decoding=Decoding(bit_depth=bits))
            np.testing.assert_array_equal(picture, shown(pixels, bits))


def test_alpha_does_not_count_as_a_value() -> None:
    pixels = values(12, (20, 30, 4))
    assert pixels[..., 3].min() == 65535
    assert read_image(png16(pixels)).max() == 255
    gray = np.dstack([values(12), np.full((20, 30), 65535, np.uint16)])
    colour = np.dstack([gray[..., 0]] * 3 + [gray[..., 1]])
    np.testing.assert_array_equal(read_image(png16(colour)), shown(gray[..., 0], 12))


@pytest.mark.parametrize("decoding", [Decoding(), Decoding(bit_depth=12), Decoding(bit_depth=16)], ids=str)
def test_eight_bits_stay_as_they_are(decoding: Decoding) -> None:
    dark = (values(8) % 40).astype(np.uint8)
    for image in (Image.fromarray(dark), Image.fromarray(np.dstack([dark] * 3))):
        for file_format in ("PNG", "TIFF", "BMP"):
            assert read_image(encode(image, file_format), decoding=decoding).max() == 39


@pytest.mark.parametrize(
    ("pixels", "options", "words"),
    [
        (np.array([[-5, 3000]], np.int16), {}, "from -5 to 3000.*--bit-depth"),
        (np.array([[7, 70000]], np.int32), {}, "from 7 to 70000.*--bit-depth"),
        (np.array([[0.25, 0.5]], np.float32), {}, "floating-point"),
        (values(12, (4, 6, 3)), {"planes": True}, "separate planes.*interleaved"),
        (values(12, (4, 6, 4)), {"planes": True, "photometric": 5}, "separate planes.*interleaved"),
        (values(12, (4, 6, 4)) & 4095, {"photometric": 5}, "16-bit CMYK.* save it as RGB, or pass --bit-depth 16"),
        (values(12, (4, 6, 2)), {}, "of an unsupported kind"),
        (np.full((4, 6, 3), 0.5, np.float32), {}, "of an unsupported kind"),
    ],
)
def test_values_without_a_known_range_are_refused_with_advice(
    pixels: np.ndarray, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        read_image(tiff(pixels, **options))


def test_signed_and_long_numbers_are_read_if_their_range_is_known() -> None:
    for kind in (np.int16, np.int32, np.uint32):
        pixels = values(12).astype(kind)
        np.testing.assert_array_equal(read_image(tiff(pixels)), shown(pixels, 12))
    below = np.array([[-5, 0, 4095, 5000]], np.int32)
    assert read_image(tiff(below), decoding=Decoding(bit_depth=12))[0, :, 0].tolist() == [0, 0, 255, 255]


def test_images_where_zero_is_white_are_not_inverted() -> None:
    np.testing.assert_array_equal(read_image(tiff(values(12), photometric=0)), 255 - shown(values(12), 12))


def test_masks_where_zero_is_white_are_read_as_displayed(tmp_path: Path) -> None:
    """For 16-bit files the result is the same as for 8-bit files, which Pillow inverts."""
    mask = np.full((20, 30), 255, np.uint8)
    mask[5:15, 5:15] = 0
    for kind in (np.uint8, np.uint16):
        (tmp_path / "a.tif").write_bytes(tiff(mask.astype(kind), photometric=0))
        for rule in map(MaskRule.parse, ("nonzero", "above:100", "ids")):
            labels = rule.read(tmp_path / "a.tif", Decoding())
            (value,) = rule.values(labels)
            np.testing.assert_array_equal(rule.object_mask(labels, value), mask == 0)
        (tmp_path / "a.tif").write_bytes(tiff(np.kron(np.arange(6), np.ones((20, 5))).astype(kind), photometric=0))
        with pytest.raises(ValueError, match="0 is white"):
            MaskRule.parse("ids").read(tmp_path / "a.tif", Decoding())


@pytest.mark.parametrize("stored", [[0], [0, 1], [0, 1000], [0, 1, 2], [1, 2, 200]])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_numbers_where_zero_is_white_are_refused_by_every_rule(
    stored: list[int], kind: type[np.unsignedinteger[Any]], tmp_path: Path
) -> None:
    """Read as displayed, the background and the objects would be one object as large as the image."""
    mask = np.kron(np.minimum(stored, np.iinfo(kind).max - 1), np.ones((20, 10))).astype(kind)
    (tmp_path / "a.tif").write_bytes(tiff(mask, photometric=0))
    for rule in ("nonzero", "above:0", "above:100", "ids"):
        with pytest.raises(ValueError, match=r"0 is white and no pixel is black.*PhotometricInterpretation 1"):
            MaskRule.parse(rule).read(tmp_path / "a.tif", Decoding())


def test_one_bit_masks_where_zero_is_white_may_be_all_white(tmp_path: Path) -> None:
    Image.new("1", (30, 20), 255).save(tmp_path / "a.tif", tiffinfo={262: 0})
    with Image.open(tmp_path / "a.tif") as image:
        assert is_negative(image)
    assert MaskRule.parse("nonzero").read(tmp_path / "a.tif", Decoding()).all()


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_the_order_of_bytes_makes_no_difference_where_zero_is_white(bits: int, tmp_path: Path) -> None:
    """Pillow alone does not support big-endian 16-bit gray in which 0 is white."""
    pixels = values(bits)
    for photometric in (0, 1):
        one, other = (tiff(pixels, photometric=photometric, big=big) for big in (False, True))
        np.testing.assert_array_equal(read_image(one), read_image(other))
        for name, data in (("one", one), ("other", other)):
            (tmp_path / name).write_bytes(data)
        found = [MaskRule.parse("above:9").read(tmp_path / name, Decoding()) for name in ("one", "other")]
        for labels in found:
            np.testing.assert_array_equal(labels, pixels if photometric else (1 << bits) - 1 - pixels.astype(int))


def test_sixteen_bit_cmyk_masks_are_read_if_the_depth_is_given(tmp_path: Path) -> None:
    inks = np.full((20, 30, 3), 65535, np.uint16)
    inks[5:15, 5:15] = 0
    (tmp_path / "a.tif").write_bytes(tiff_of_cmyk(inks))
    for rule in ("nonzero", "above:100", "ids"):
        with pytest.raises(ValueError, match="pass --bit-depth 16"):
            MaskRule.parse(rule).read(tmp_path / "a.tif", Decoding())
        labels = MaskRule.parse(rule).read(tmp_path / "a.tif", Decoding(bit_depth=16))
        np.testing.assert_array_equal(labels > 0, inks[..., 0] == 0)


def test_sixteen_bit_cmyk_is_read_if_all_bits_count() -> None:
    inks = values(16, (20, 30, 3))
    np.testing.assert_array_equal(read_image(tiff_of_cmyk(inks)), 255 - (inks >> 8))
    light = read_image(tiff_of_cmyk(inks >> 4), decoding=Decoding(bit_depth=16))
    np.testing.assert_array_equal(light, 255 - (inks >> 12))
    with pytest.raises(ValueError, match="16-bit CMYK"):
        read_image(tiff_of_cmyk(inks), decoding=Decoding(bit_depth=12))


def test_rotated_sixteen_bit_photos_are_rotated_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = shown(values(12), 12)
    data = encode(Image.fromarray(values(12)), exif=exif)
    np.testing.assert_array_equal(read_image(data, upright=True), np.rot90(stored, -1))
    np.testing.assert_array_equal(read_image(data, expected_hw=(30, 20)), np.rot90(stored, -1))


def test_invalid_depths_are_refused() -> None:
    with pytest.raises(InputError, match="bit_depth is 9: expected 8, 10, 12, 14, 16"):
        Decoding(bit_depth=9)


def folder_of(tmp_path: Path, pixels: dict[str, np.ndarray]) -> Path:
    """Write 16-bit images with a mask each, for the reader `masks`."""
    for name in ("images", "masks"):
        (tmp_path / "source" / name).mkdir(parents=True)
    for name, found in pixels.items():
        (tmp_path / "source/images" / f"{name}.png").write_bytes(png16(found))
        mask = np.zeros(found.shape[:2], np.uint8)
        mask[5:15, 5:15] = 255
        Image.fromarray(mask).save(tmp_path / "source/masks" / f"{name}.png")
    return tmp_path / "source"


def test_prepared_images_equal_the_readers_and_keep_their_bytes_if_possible(tmp_path: Path) -> None:
    source = folder_of(tmp_path, {"deep": values(12), "whole": values(16), "colours": values(12, (20, 30, 3))})
    reader = open_reader("masks", str(source))
    prepare(reader, Storage(str(tmp_path / "out")), {}, run=run_here())
    shards = open_reader("prepared", str(tmp_path / "out"))
    for item, stored in zip(reader.items(), shards.items(), strict=True):
        np.testing.assert_array_equal(shards.load(stored).image, reader.load(item).image)
        assert reader.load(item).image.max() == 255


def test_shards_of_earlier_versions_are_decoded_as_before(tmp_path: Path) -> None:
    source = folder_of(tmp_path, {"deep": values(12)})
    reader = open_reader("masks", str(source), decoding=Decoding(bit_depth=16))
    dark = reader.load(reader.items()[0]).image
    assert dark.max() == 15
    # Earlier versions stored the file's bytes, and nothing in the manifest.
    prepare(reader, Storage(str(tmp_path / "out")), {"reader": "masks"}, run=run_here())
    shards = open_reader("prepared", str(tmp_path / "out"))
    np.testing.assert_array_equal(shards.load(shards.items()[0]).image, dark)
    assert (source / "images/deep.png").read_bytes() in (tmp_path / "out/data/part-000000.parquet").read_bytes()


def test_prepared_data_records_its_depth_and_refuses_others(tmp_path: Path) -> None:
    source = folder_of(tmp_path, {"deep": values(12)})
    decoding = Decoding(bit_depth=14)
    reader = open_reader("masks", str(source), decoding=decoding)
    settings = {"exif": "auto", "bit_depth": 14, "max_megapixels": 64}
    prepare(reader, Storage(str(tmp_path / "out")), settings, run=run_here())
    assert json.loads((tmp_path / "out" / MANIFEST).read_text())["settings"] == settings
    shards = open_reader("prepared", str(tmp_path / "out"), decoding=decoding)
    assert shards.load(shards.items()[0]).image.max() == 63
    with pytest.raises(InputError, match=r"bit_depth is 12, but .* with bit_depth 14: .* with --bit-depth 12"):
        open_reader("prepared", str(tmp_path / "out"), options={"bit_depth": "12"})


def test_a_preparation_of_an_earlier_version_resumes(tmp_path: Path) -> None:
    source = folder_of(tmp_path, {"deep": values(12)})
    reader, storage = open_reader("masks", str(source)), Storage(str(tmp_path / "out"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/settings.json").write_text(json.dumps({"settings": {"reader": "masks"}}))
    more = {"reader": "masks"}
    assert prepare(reader, storage, Settings(Decoding(), more=more), run=run_here())["num_rows"] == 1
    with pytest.raises(InputError, match="other settings"):
        prepare(reader, storage, Settings(Decoding(bit_depth=12), more=more), run=run_here())
