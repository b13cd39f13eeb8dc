"""Read mask files: their values, from the alpha channel if that alone holds a mask, and how they were stored."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from models.decoding import AS_IT_COMES, Decoding
from models.pixels import deep_values, is_negative
from pipeline.data.images import decode_file, label_values

LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp", "jp2k")
NOISE = 16
"""Lossy compression spreads a single value over a range smaller than this, of 255."""
NEAR_GRAY = 2
"""Palette colours whose channels differ by at most this much, of 255, are gray."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskFile:
    """The values of a mask file, integer (h, w), or (h, w, 3) RGB; uint16 if a channel has more than eight bits.

    `is_lossy`: compression has changed the values. `is_palette`: they are palette indices. `in_alpha`: they are the
    alpha channel. `is_negative`: the file stores 0 for white, and the values are as it is displayed. `lacks_black`:
    such a file has no black pixel. `of_grays`: the values are the grays of a palette. `is_ambiguous`: its indices show
    other objects than its grays do.
    """

    values: np.ndarray
    is_lossy: bool = False
    is_palette: bool = False
    in_alpha: bool = False
    is_negative: bool = False
    lacks_black: bool = False
    of_grays: bool = False
    is_ambiguous: bool = False


def read_mask_file(
    source: Path | str | bytes, *, palette_index: bool = True, decoding: Decoding = AS_IT_COMES
) -> MaskFile:
    """Read a mask file or its bytes; raises ValueError if it is unreadable.

    If the colours are the same everywhere and the alpha is not, the alpha is the mask; otherwise alpha is dropped. A
    palette file returns its indices, or its colours if `palette_index` is False. If the colours that occur are grays
    that do not rise with their indices, the file is a picture and returns its grays, as 0 and 1 if there are two. This
    does not apply if only index 0 is transparent.
    """
    return decode_file(source, decoding, lambda image: _read(image, source, palette_index, decoding.bit_depth))


def _read(image: Image.Image, source: Path | str | bytes, palette_index: bool, bit_depth: int) -> MaskFile:
    lossy = _is_lossy(image, source)
    deep = deep_values(image, source, bit_depth)
    if deep is not None and deep.ndim == 2:
        return _negative(deep) if is_negative(image) else MaskFile(values=deep)
    if deep is not None and not (deep % 257).any():
        deep = (deep // 257).astype(np.uint8)  # 8-bit values that were written as 16-bit
    rgba = deep
    if deep is None and (image.mode in ("RGBA", "LA", "PA") or (image.mode == "P" and "transparency" in image.info)):
        rgba = np.array(image.convert("RGBA"))
    if rgba is not None and rgba.shape[2] == 4 and np.ptp(rgba[..., 3]) and not (palette_index and _is_numbered(image)):
        spread = np.ptp(rgba[..., :3].reshape(-1, 3).astype(np.int32), axis=0).max()
        if spread < (NOISE if lossy else 1):
            return MaskFile(values=rgba[..., 3], in_alpha=True)
    if deep is not None:
        return MaskFile(values=deep[..., :3])
    is_palette = image.mode == "P"
    grays = _pictured_grays(image) if is_palette and palette_index else None
    if grays is not None:
        return grays
    values = label_values(image, palette_index)
    if image.mode in ("1", "L") and is_negative(image):
        return _negative(values, lossy, one_bit=image.mode == "1")
    return MaskFile(values=values, is_lossy=lossy, is_palette=is_palette)


def _negative(shown: np.ndarray, lossy: bool = False, *, one_bit: bool = False) -> MaskFile:
    """Return the mask of a TIFF in which 0 is white. A 1-bit file cannot hold numbers, so it may be all white."""
    lacks_black = not one_bit and int(shown.min()) >= (NOISE if lossy else 1)
    return MaskFile(values=shown, is_lossy=lossy, is_negative=True, lacks_black=lacks_black)


def _hides_zero(image: Image.Image) -> bool:
    """Whether index 0 of a palette, and no other, is transparent."""
    alpha = image.info.get("transparency") if image.mode == "P" else None
    return alpha == 0 or (isinstance(alpha, bytes) and alpha[:1] < b"\xff" and set(alpha[1:]) <= {255})


def _is_numbered(image: Image.Image) -> bool:
    """Whether a palette holds more than its alpha: only its index 0 is transparent, and the others are not all 1."""
    return _hides_zero(image) and int(np.array(image).max()) > 1


def _pictured_grays(image: Image.Image) -> MaskFile | None:
    """Return the mask of a palette whose occurring colours are grays that do not rise with their indices, or None.

    Programs that reduce colours number them as they occur, often starting with white. If the palette also has colours
    that do not occur, its grays are a picture only if white comes first: label palettes, such as PASCAL VOC's, hold
    some grays as well.
    """
    if _hides_zero(image):
        return None
    palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    numbers = np.array(image)
    used = np.unique(numbers)
    if used[-1] >= len(palette):
        return None
    is_gray, grays = np.ptp(palette, axis=1) <= NEAR_GRAY, palette.max(axis=1)
    if len(used) == 1:
        is_object = used[0] == 0 and _is_bright_first(grays, is_gray)
        return MaskFile(values=np.ones_like(numbers), of_grays=True) if is_object else None
    shown = grays[used].astype(int)
    may_be_picture = is_gray.all() or (used[0] == 0 and shown[0] == shown.max())
    if not may_be_picture or not is_gray[used].all() or (np.diff(shown) >= 0).all():
        return None
    num_shown = len(set(shown))
    same_objects = num_shown == len(used) and ((used > 0) == (shown > 0)).all()
    return MaskFile(
        values=grays[numbers] if num_shown > 2 else (grays[numbers] > shown.min()).astype(np.uint8),
        of_grays=True,
        is_ambiguous=len(used) > 2 and not same_objects,
    )


def _is_bright_first(grays: np.ndarray, is_gray: np.ndarray) -> bool:
    """Whether a palette begins with its brightest gray, above 127, and holds it alone or darker grays after it.

    Only grays before the first colour count. A mask of that gray alone is an object as large as the image.
    """
    leading = grays if is_gray.all() else grays[: int(np.argmin(is_gray))]
    if not len(leading) or leading[0] != leading.max() or leading[0] <= 127:
        return False
    return len(grays) == 1 or bool(leading.min() < leading[0])


def _is_lossy(image: Image.Image, source: Path | str | bytes) -> bool:
    if image.format == "WEBP":
        return _is_lossy_webp(source if isinstance(source, bytes) else Path(source).read_bytes())
    return image.format in ("JPEG", "MPO") or image.info.get("compression") in LOSSY_TIFF


def _is_lossy_webp(data: bytes) -> bool:
    """Read the type of the first pixel chunk: VP8 is lossy, VP8L is not."""
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8 "
        at += 24 if name == b"ANMF" else 8 + size + size % 2  # an animation frame has 16 more bytes of header
    return False
