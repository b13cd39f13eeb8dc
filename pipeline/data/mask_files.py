"""Mask files: their values, from the alpha channel where that alone holds a mask, and whether they were compressed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from models.decoding import AS_IT_COMES, Decoding
from models.pixels import deep_values, is_negative
from pipeline.data.images import decode_file, label_values

LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp", "jp2k")
NOISE = 16
"""Lossy compression leaves what was one value within less than so many of 255."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskFile:
    """The values of a mask file, integer (h, w), or (h, w, 3) RGB; uint16 where a channel has more than eight bits.

    `is_lossy`: compression has changed them; `is_palette`: they are numbers of colours; `in_alpha`: they are its alpha;
    `is_negative`: as the file shows them, which stores 0 for white; `lacks_black`: of such a file, no pixel is black;
    `of_grays`: as a palette of grays shows them.
    """

    values: np.ndarray
    is_lossy: bool = False
    is_palette: bool = False
    in_alpha: bool = False
    is_negative: bool = False
    lacks_black: bool = False
    of_grays: bool = False


def read_mask_file(
    source: Path | str | bytes, *, palette_index: bool = True, decoding: Decoding = AS_IT_COMES
) -> MaskFile:
    """Read a mask file or its bytes; ValueError if it is unreadable.

    Where the colours are the same everywhere and the alpha is not, the alpha is the mask; otherwise it is dropped. A
    palette file gives its indices, or its colours with `palette_index` False. A palette of grays that do not rise with
    their indices is no list of objects but a picture, and gives its grays: 0 and 1 if the mask has two.
    """
    return decode_file(source, decoding, lambda image: _read(image, source, palette_index, decoding.bit_depth))


def _read(image: Image.Image, source: Path | str | bytes, palette_index: bool, bit_depth: int) -> MaskFile:
    lossy = _is_lossy(image, source)
    deep = deep_values(image, source, bit_depth)
    if deep is not None and deep.ndim == 2:
        return _negative(deep) if is_negative(image) else MaskFile(values=deep)
    if deep is not None and not (deep % 257).any():
        deep = (deep // 257).astype(np.uint8)  # eight bits that were written as sixteen
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
        return MaskFile(values=grays, of_grays=True)
    values = label_values(image, palette_index)
    if image.mode in ("1", "L") and is_negative(image):
        return _negative(values, lossy, one_bit=image.mode == "1")
    return MaskFile(values=values, is_lossy=lossy, is_palette=is_palette)


def _negative(shown: np.ndarray, lossy: bool = False, *, one_bit: bool = False) -> MaskFile:
    """What a TIFF in which 0 is white shows. One bit has no room for numbers: it may be white alone."""
    lacks_black = not one_bit and int(shown.min()) >= (NOISE if lossy else 1)
    return MaskFile(values=shown, is_lossy=lossy, is_negative=True, lacks_black=lacks_black)


def _is_numbered(image: Image.Image) -> bool:
    """Whether a palette tells more than its alpha: its 0 alone is transparent, and the rest is not all 1."""
    alpha = image.info.get("transparency") if image.mode == "P" else None
    is_zero = alpha == 0 or (isinstance(alpha, bytes) and alpha[:1] < b"\xff" and set(alpha[1:]) <= {255})
    return is_zero and int(np.array(image).max()) > 1


def _pictured_grays(image: Image.Image) -> np.ndarray | None:
    """What a palette of grays alone shows, where these do not rise with their numbers; None for all else.

    Programs that reduce colours number them as they come, often from white on.
    """
    palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    numbers = np.array(image)
    used = np.unique(numbers)
    if (palette != palette[:, :1]).any() or used[-1] >= len(palette):
        return None
    grays = palette[:, 0]
    shown = grays[used].astype(int)
    if len(used) == 1:  # one bright colour that comes first is an object as large as the image
        is_first = used[0] == 0 and grays[0] == grays.max() > 127 and (len(grays) == 1 or grays.min() < grays[0])
        return np.ones_like(numbers) if is_first else None
    if (np.diff(shown) >= 0).all():
        return None
    return grays[numbers] if len(set(shown)) > 2 else (grays[numbers] > shown.min()).astype(np.uint8)


def _is_lossy(image: Image.Image, source: Path | str | bytes) -> bool:
    if image.format == "WEBP":
        return _is_lossy_webp(source if isinstance(source, bytes) else Path(source).read_bytes())
    return image.format in ("JPEG", "MPO") or image.info.get("compression") in LOSSY_TIFF


def _is_lossy_webp(data: bytes) -> bool:
    """Look for the first chunk of pixels: VP8 is lossy, VP8L is not."""
    at = 12
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8 "
        at += 24 if name == b"ANMF" else 8 + size + size % 2  # a frame begins with 16 bytes more
    return False
