"""Masks whose values are not labels: in an alpha channel, with lossy compression, or with smoothed edges."""

import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from models.decoding import AS_IT_COMES
from pipeline.data.loading import load_or_refuse
from pipeline.data.readers import open_reader
from pipeline.data.readers.mask_rule import MaskRule
from pipeline.data.sample import BadItem, Reader
from tests.deep_files import png16
from tests.pipeline.test_images import encode

HW = (120, 200)


def discs(*levels: int, scale: int = 1) -> np.ndarray:
    """A disc of radius 25 for each level, side by side."""
    y, x = np.ogrid[: HW[0] * scale, : HW[1] * scale]
    mask = np.zeros((HW[0] * scale, HW[1] * scale), np.uint8)
    for number, level in enumerate(levels):
        mask[((y + 0.5) / scale - 60) ** 2 + ((x + 0.5) / scale - 45 - 70 * number) ** 2 <= 25**2] = level
    return mask


def smoothed(*levels: int) -> np.ndarray:
    """The same, drawn four times as large and averaged, as drawing programs smooth edges."""
    return np.array(Image.fromarray(discs(*levels, scale=4)).resize((HW[1], HW[0]), Image.Resampling.BOX))


def in_alpha(mask: np.ndarray, colour: int = 255) -> np.ndarray:
    return np.dstack([np.full((*mask.shape, 3), colour, mask.dtype), mask])


def palette_of(mask: np.ndarray) -> Image.Image:
    image = Image.fromarray(mask).convert("P")
    image.putpalette([value for value in range(256) for _ in range(3)])
    return image


def write(root: Path, masks: dict[str, bytes]) -> Path:
    """A data set of images and these masks, by file name."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name, data in masks.items():
        Image.new("RGB", (HW[1], HW[0])).save(root / "images" / f"{Path(name).stem}.png")
        (root / "masks" / name).write_bytes(data)
    return root


def read(tmp_path: Path, rule: str, data: bytes, notes: Counter[str] | None = None) -> list[np.ndarray]:
    """The objects that a rule finds in a mask file."""
    (tmp_path / "mask").write_bytes(data)
    parsed = MaskRule.parse(rule)
    labels = parsed.read(tmp_path / "mask", AS_IT_COMES, notes)
    return [parsed.object_mask(labels, value) for value in parsed.values(labels)]


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


SOFT = {
    "jpeg": lambda: encode(Image.fromarray(discs(255, 255)), "JPEG"),
    "poor jpeg": lambda: encode(Image.fromarray(discs(255, 255)), "JPEG", quality=30),
    "dark jpeg": lambda: encode(Image.fromarray(discs(60, 60)), "JPEG"),
    "jpeg of two levels": lambda: encode(Image.fromarray(discs(255, 128)), "JPEG"),
    "jpeg in colour": lambda: encode(Image.fromarray(np.dstack([discs(255, 0), discs(0, 255), discs()])), "JPEG"),
    "webp": lambda: encode(Image.fromarray(discs(255, 255)), "WEBP", quality=60),
    "tiff with jpeg": lambda: encode(Image.fromarray(discs(255, 255)), "TIFF", compression="jpeg"),
    "smoothed": lambda: encode(Image.fromarray(smoothed(255, 255))),
    "smoothed, darker": lambda: encode(Image.fromarray(smoothed(7, 7))),
    "smoothed, of two levels": lambda: encode(Image.fromarray(smoothed(100, 200))),
    "smoothed, 16 bits": lambda: png16(smoothed(255, 255).astype(np.uint16) * 257),
    "smoothed, in colour": lambda: encode(Image.fromarray(np.dstack([smoothed(255, 255), discs(), discs()]))),
    "blurred": lambda: encode(Image.fromarray(cv2.GaussianBlur(discs(255, 255), (9, 9), 1.5))),
    "smoothed, in alpha": lambda: encode(Image.fromarray(in_alpha(smoothed(255, 255)))),
}


@pytest.mark.parametrize("kind", SOFT)
def test_soft_masks_get_the_middle_as_threshold_and_a_warning(kind: str, tmp_path: Path) -> None:
    notes = Counter[str]()
    (found,) = read(tmp_path, "nonzero", SOFT[kind](), notes)
    assert iou(found, discs(255, 255) > 0) > 0.985
    assert notes["soft"] == 1


@pytest.mark.parametrize("kind", SOFT)
def test_values_of_a_soft_mask_are_not_object_numbers(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"values are not object numbers: .* PNG .* nonzero or above:N"):
        read(tmp_path, "ids", SOFT[kind]())


def test_an_explicit_threshold_is_kept(tmp_path: Path) -> None:
    soft, notes = smoothed(255), Counter[str]()
    (found,) = read(tmp_path, "above:200", encode(Image.fromarray(soft)), notes)
    np.testing.assert_array_equal(found, soft > 200)
    lossy = encode(Image.fromarray(discs(255)), "JPEG")
    (found,) = read(tmp_path, "above:3", lossy, notes)
    assert found.sum() > 1.1 * (discs(255) > 0).sum(), "what compression left is above 3"
    assert not +notes


@pytest.mark.parametrize("brightness", [0, 1, 255])
def test_a_compressed_mask_of_one_value_stays_one(brightness: int, tmp_path: Path) -> None:
    (found,) = read(tmp_path, "nonzero", encode(Image.new("L", (64, 48), brightness), "JPEG"))
    assert found.mean() == (brightness > 0)
    speckled = np.random.default_rng(0).integers(0, 5, (48, 64)).astype(np.uint8)
    (found,) = read(tmp_path, "nonzero", encode(Image.fromarray(speckled), "JPEG"))
    assert not found.any(), "black, but for what compression left"


def many_flat() -> np.ndarray:
    mask = np.zeros(HW, np.uint8)
    for number in range(60):
        cv2.circle(mask, (12 + 16 * (number % 12), 14 + 22 * (number // 12)), 6, number + 1, -1)
    return mask


def tiny_and_touching() -> np.ndarray:
    return np.kron(np.arange(1, 61, dtype=np.uint8).reshape(6, 10), np.ones((2, 2), np.uint8))


def thin_between() -> np.ndarray:
    mask = np.zeros(HW, np.uint8)
    mask[20:100, 30:100], mask[20:100, 100:103], mask[20:100, 103:170] = 1, 2, 3
    return mask


LABELS = {
    "two": lambda: discs(255, 255),
    "numbers": lambda: discs(1, 2),
    "far apart": lambda: discs(255, 128),
    "many": many_flat,
    "tiny": tiny_and_touching,
    "thin": thin_between,
}


@pytest.mark.parametrize("write_as", ["png", "palette", "tiff", "bmp", "webp", "16 bits", "16 bits in colour"])
@pytest.mark.parametrize("kind", LABELS)
def test_labels_get_no_threshold(kind: str, write_as: str, tmp_path: Path) -> None:
    labels = LABELS[kind]()
    data = {
        "png": lambda: encode(Image.fromarray(labels)),
        "palette": lambda: encode(palette_of(labels)),
        "tiff": lambda: encode(Image.fromarray(labels), "TIFF", compression="tiff_lzw"),
        "bmp": lambda: encode(Image.fromarray(labels), "BMP"),
        "webp": lambda: encode(Image.fromarray(labels), "WEBP", lossless=True),
        "16 bits": lambda: png16(labels.astype(np.uint16) * 7),
        "16 bits in colour": lambda: png16(np.dstack([labels.astype(np.uint16)] * 3)),
    }[write_as]()
    notes = Counter[str]()
    (whole,) = read(tmp_path, "nonzero", data, notes)
    np.testing.assert_array_equal(whole, labels > 0)
    parts = read(tmp_path, "ids", data, notes)
    assert len(parts) == len(np.unique(labels[labels > 0]))
    for part, value in zip(parts, np.unique(labels[labels > 0]), strict=True):
        np.testing.assert_array_equal(part, labels == value)
    assert not +notes


def test_palettes_and_one_bit_masks_are_always_labels(tmp_path: Path) -> None:
    assert len(read(tmp_path, "ids", encode(palette_of(smoothed(255))))) == len(np.unique(smoothed(255))) - 1
    (found,) = read(tmp_path, "nonzero", encode(palette_of(smoothed(255))))
    np.testing.assert_array_equal(found, smoothed(255) > 0)
    for data in (encode(Image.fromarray(discs(255) > 0)), encode(Image.fromarray(discs(255)[40:80, 30:60]), "JPEG")):
        read(tmp_path, "ids", data)


def test_an_ignored_value_is_not_a_smoothed_edge(tmp_path: Path) -> None:
    mask = discs(255)
    band = cv2.dilate(mask, np.ones((3, 3), np.uint8)) - mask > 0
    mask[band] = 128
    data = encode(Image.fromarray(mask))
    (found,) = read(tmp_path, "above:128,ignore:128", data)
    np.testing.assert_array_equal(found, discs(255) > 0)
    (found,) = read(tmp_path, "ids,ignore:128", data)
    np.testing.assert_array_equal(found, discs(255) > 0)
    numbered = discs(1, 2)
    numbered[(numbered == 0) & (cv2.dilate(numbered, np.ones((5, 5), np.uint8)) > 0)] = 255
    parts = read(tmp_path, "ids,ignore:255", encode(Image.fromarray(numbered)))
    np.testing.assert_array_equal(np.stack(parts), [discs(1) == 1, discs(0, 2) == 2])


ALPHA = {
    "white": lambda: encode(Image.fromarray(in_alpha(discs(255, 255)))),
    "black": lambda: encode(Image.fromarray(in_alpha(discs(255, 255), 0))),
    "gray": lambda: encode(Image.fromarray(np.dstack([discs(), discs(255, 255)]), "LA")),
    "half transparent": lambda: encode(Image.fromarray(in_alpha(discs(128, 128)))),
    "16 bits": lambda: png16(in_alpha(discs(255, 255).astype(np.uint16) * 257, 65535)),
    "lossy webp": lambda: encode(Image.fromarray(in_alpha(discs(255, 255))), "WEBP", quality=70),
    "tiff": lambda: encode(Image.fromarray(in_alpha(discs(255, 255))), "TIFF"),
    "palette": lambda: encode(black_palette(), transparency=bytes([0, 255] + [255] * 254)),
}


def black_palette() -> Image.Image:
    image = Image.fromarray((discs(255, 255) > 0).astype(np.uint8)).convert("P")
    image.putpalette([0] * 768)
    return image


@pytest.mark.parametrize("kind", ALPHA)
def test_a_mask_only_in_the_alpha_channel_is_read(kind: str, tmp_path: Path) -> None:
    for rule in ("nonzero", "ids", "above:100"):
        notes = Counter[str]()
        (found,) = read(tmp_path, rule, ALPHA[kind](), notes)
        np.testing.assert_array_equal(found, discs(255, 255) > 0)
        assert notes["alpha"] == 1


@pytest.mark.parametrize("transparency", [0, bytes([0]), bytes([0] + [255] * 255)])
@pytest.mark.parametrize("levels", [(1, 2), (5, 5), (3, 200)])
def test_black_palettes_keep_their_numbers_if_0_is_transparent(
    levels: tuple[int, int], transparency: int | bytes, tmp_path: Path
) -> None:
    image = Image.fromarray(discs(*levels)).convert("P")
    image.putpalette([0] * 768)
    notes = Counter[str]()
    data = encode(image, transparency=transparency)
    parts = read(tmp_path, "ids", data, notes)
    for part, value in zip(parts, sorted(set(levels)), strict=True):
        np.testing.assert_array_equal(part, discs(*levels) == value)
    (tmp_path / "mask").write_bytes(data)
    assert set(np.unique(MaskRule.parse("ids").read(tmp_path / "mask", AS_IT_COMES))) == {0, *levels}
    (whole,) = read(tmp_path, "nonzero", data, notes)
    np.testing.assert_array_equal(whole, discs(*levels) > 0)
    assert not +notes


def reduced(mask: np.ndarray, colors: int = 2) -> Image.Image:
    """A palette file as Pillow makes it from a picture, in which white comes first."""
    image = Image.fromarray(mask).convert("RGB").quantize(colors)
    assert (image.getpalette() or [0])[0] > 127
    return image


PICTURES = {
    "quantize": lambda: reduced(discs(255, 255)),
    "adaptive": lambda: Image.fromarray(discs(255, 255)).convert("P", palette=Image.Palette.ADAPTIVE),
    "two grays": lambda: reduced(np.where(discs(1, 1) > 0, 254, 1).astype(np.uint8)),
}


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP"])
@pytest.mark.parametrize("kind", PICTURES)
def test_a_palette_of_black_and_white_is_a_picture(kind: str, file_format: str, tmp_path: Path) -> None:
    for rule in ("nonzero", "ids", "above:100"):
        notes = Counter[str]()
        (found,) = read(tmp_path, rule, encode(PICTURES[kind](), file_format), notes)
        np.testing.assert_array_equal(found, discs(255, 255) > 0)
        assert +notes == ({} if rule.startswith("above") else {"grays": 1})


def test_a_picture_of_many_grays_is_soft_and_no_list_of_objects(tmp_path: Path) -> None:
    image = reduced(smoothed(255, 255), 256)
    (found,) = read(tmp_path, "nonzero", encode(image))
    assert iou(found, discs(255, 255) > 0) > 0.985
    with pytest.raises(ValueError, match="not object numbers"):
        read(tmp_path, "ids", encode(image))


def test_a_picture_of_one_gray_is_empty_or_full(tmp_path: Path) -> None:
    for brightness in (0, 255):
        image = Image.new("P", (HW[1], HW[0]))
        image.putpalette([brightness] * 3)
        (found,) = read(tmp_path, "nonzero", encode(image))
        assert found.mean() == (brightness > 0)


VOC = [[128 * (n >> c & 1) | 64 * (n >> c + 3 & 1) for c in range(3)] for n in range(64)]
NUMBERED = {
    "VOC": (VOC, (7, 56)),
    "black, white": ([[0] * 3, [255] * 3], (1, 1)),
    "rising grays": ([[16 + n] * 3 for n in range(200)], (3, 9)),
    "white, red": ([[255] * 3, [255, 0, 0]], (1, 1)),
    "one gray": ([[255] * 3] * 9, (2, 7)),
}


@pytest.mark.parametrize("kind", NUMBERED)
def test_other_palettes_are_numbers(kind: str, tmp_path: Path) -> None:
    palette, levels = NUMBERED[kind]
    for mask in (discs(*levels), discs(*levels)[:9, :9], discs(*levels)[56:64, 40:50]):
        image = Image.fromarray(mask).convert("P")
        image.putpalette([value for colour in palette for value in colour])
        (tmp_path / "mask").write_bytes(encode(image))
        notes = Counter[str]()
        np.testing.assert_array_equal(MaskRule.parse("ids").read(tmp_path / "mask", AS_IT_COMES, notes), mask)
        assert not +notes


def with_palette(mask: np.ndarray, *colours: int | tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(mask).convert("P")
    image.putpalette([v for colour in colours for v in (colour if isinstance(colour, tuple) else (colour,) * 3)])
    return image


@pytest.mark.parametrize("transparency", [0, bytes([0]), bytes([0, 255, 255])])
@pytest.mark.parametrize("levels", [(1, 2), (1, 1)])
def test_gray_palettes_keep_their_numbers_if_0_is_transparent(
    levels: tuple[int, int], transparency: int | bytes, tmp_path: Path
) -> None:
    data = encode(with_palette(discs(*levels), 255, 0, 128), transparency=transparency)
    notes = Counter[str]()
    for part, value in zip(read(tmp_path, "ids", data, notes), sorted(set(levels)), strict=True):
        np.testing.assert_array_equal(part, discs(*levels) == value)
    (whole,) = read(tmp_path, "nonzero", data, notes)
    np.testing.assert_array_equal(whole, discs(*levels) > 0)
    assert not +notes


@pytest.mark.parametrize("grays", [(255, 0, 128), (255, 0, 0), (40, 0, 128), (0, 128, 0)])
def test_gray_palettes_that_contradict_their_numbers_are_refused(grays: tuple[int, int, int], tmp_path: Path) -> None:
    data = encode(with_palette(discs(1, 2), *grays))
    with pytest.raises(ValueError, match=r"does not rise with its numbers.*save the numbers as gray values"):
        read(tmp_path, "ids", data)
    read(tmp_path, "nonzero", data)


def test_gray_palettes_that_agree_with_their_numbers_are_read(tmp_path: Path) -> None:
    parts = read(tmp_path, "ids", encode(with_palette(discs(1, 2), 0, 200, 100)))
    np.testing.assert_array_equal(np.stack(parts), [discs(0, 2) > 0, discs(1) > 0])


@pytest.mark.parametrize(
    "colours",
    [(255, 0, (255, 0, 0)), ((255, 255, 254), 0), ((253, 255, 254), (0, 2, 1), (9, 200, 0))],
    ids=str,
)
def test_unused_colours_and_near_grays_make_no_difference(
    colours: tuple[int | tuple[int, int, int], ...], tmp_path: Path
) -> None:
    for mask in (discs(255, 255) > 0, np.ones(HW, bool)):
        for rule in ("nonzero", "ids"):
            notes = Counter[str]()
            (found,) = read(tmp_path, rule, encode(with_palette((~mask).astype(np.uint8), *colours)), notes)
            np.testing.assert_array_equal(found, mask)
            assert notes["grays"] == 1


@pytest.mark.parametrize(
    ("levels", "colours"),
    [
        ((2, 2), (255, 0, (255, 0, 0))),
        ((1, 1), ((255, 255, 252), 0)),
        ((1, 3), (0, 128, (255, 0, 0), 64)),
        ((1, 3), ((255, 0, 0), 200, (0, 255, 0), 100)),
        ((0, 0), (255, (128, 0, 0), (0, 128, 0))),
    ],
    ids=str,
)
def test_used_colours_and_grays_among_colours_are_numbers(
    levels: tuple[int, int], colours: tuple[int | tuple[int, int, int], ...], tmp_path: Path
) -> None:
    (tmp_path / "mask").write_bytes(encode(with_palette(discs(*levels), *colours)))
    notes = Counter[str]()
    np.testing.assert_array_equal(MaskRule.parse("ids").read(tmp_path / "mask", AS_IT_COMES, notes), discs(*levels))
    assert not +notes


def test_numbers_in_the_alpha_channel_are_objects(tmp_path: Path) -> None:
    parts = read(tmp_path, "ids", encode(Image.fromarray(in_alpha(discs(1, 2)))))
    np.testing.assert_array_equal(np.stack(parts), [discs(1) == 1, discs(0, 2) == 2])


def test_varying_colours_count_and_a_constant_alpha_does_not(tmp_path: Path) -> None:
    colours, alpha = discs(255, 0), discs(0, 255)
    for channel in (alpha, np.full(HW, 255, np.uint8), np.zeros(HW, np.uint8)):
        notes = Counter[str]()
        (found,) = read(tmp_path, "nonzero", encode(Image.fromarray(np.dstack([colours] * 3 + [channel]))), notes)
        np.testing.assert_array_equal(found, colours > 0)
        assert not +notes
    (found,) = read(tmp_path, "nonzero", encode(Image.fromarray(np.full((*HW, 4), 255, np.uint8))))
    assert found.all(), "nothing varies: as before"


def masks_reader(root: Path, rule: str = "nonzero") -> Reader:
    return open_reader("masks", str(root), options={"rule": rule})


def folders_reader(root: Path) -> Reader:
    for path in sorted((root / "masks").iterdir()):
        (root / "masks" / path.stem).mkdir()
        path.rename(root / "masks" / path.stem / path.name)
    return open_reader("mask_folders", str(root), options={"images": "images/{name}.*", "masks": "masks/{name}/*"})


@pytest.mark.parametrize("opened", [masks_reader, folders_reader])
def test_a_data_set_reports_once_how_its_masks_are_read(
    opened: Callable[[Path], Reader], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = write(
        tmp_path,
        {
            "a.jpg": SOFT["jpeg"](),
            "b.png": SOFT["smoothed"](),
            "c.png": ALPHA["white"](),
            "d.png": encode(Image.fromarray(discs(255, 255))),
        },
    )
    with caplog.at_level(logging.WARNING):
        reader = opened(root)
        for _ in range(3):
            samples = [load_or_refuse(reader, item)[0] for item in reader.items()]
    assert all(sample is not None and len(sample.objects) == 1 for sample in samples)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert any("1 of 4 masks have the same colour everywhere, so their alpha channel" in text for text in said)
    assert any("2 of 4 masks are soft" in text and "above:N" in text for text in said)


def test_soft_masks_are_refused_by_name_for_ids(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = write(
        tmp_path, {f"{name}.jpg": SOFT["jpeg"]() for name in "abc"} | {"d.png": encode(palette_of(discs(1, 2)))}
    )
    with caplog.at_level(logging.WARNING):
        items = masks_reader(root, "ids").items()
    assert [item.object_ids for item in items] == [*((f"{name}/unreadable",) for name in "abc"), ("d/1", "d/2")]
    (said,) = [record.getMessage() for record in caplog.records]
    assert "3 masks cannot be listed, the first is a.jpg: its " in said
    with pytest.raises(BadItem, match=r"a: mask a.jpg: its .* values are not object numbers: its compression"):
        masks_reader(root, "ids").load(items[0])


def test_a_matte_in_the_alpha_channel_is_read(tmp_path: Path) -> None:
    for folder in ("images/natural", "alphas/natural/a"):
        (tmp_path / folder).mkdir(parents=True)
    Image.new("RGB", (HW[1], HW[0])).save(tmp_path / "images/natural/a.jpg")
    (tmp_path / "alphas/natural/a/0.png").write_bytes(encode(Image.fromarray(in_alpha(smoothed(255)))))
    reader = open_reader("him2k", str(tmp_path))
    (item,) = reader.items()
    sample = reader.load(item)
    np.testing.assert_array_equal(sample.object_mask(sample.objects[0]), smoothed(255) > 127)
