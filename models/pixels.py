"""Pixels of more than eight bits: what a file stores, and the picture that it shows, as uint8.

Files of 16 bits often hold values of 10, 12 or 14: their headers do not say so, their largest value does.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from models.decoding import BIT_DEPTHS

_PLANES = 284  # TIFF's tag PlanarConfiguration: 2 for a plane for each channel
_BITS = 258
_PHOTOMETRIC = 262  # 0 where 0 is white


class UnreadPixels(ValueError):
    """A whole file holds pixels of a kind that is not read; the message says what to do."""


def to_eight_bits(values: np.ndarray, bit_depth: int = 0) -> np.ndarray:
    """Keep the upper eight of the bits that `values` (whole numbers of any shape) use; uint8.

    `bit_depth` 0: the fewest of BIT_DEPTHS that hold the largest value; UnreadPixels where none does, or for negative
    values. Otherwise values below 0 and beyond so many bits become black and white.
    """
    bit_depth = bit_depth or _used_bits(values)
    return (np.clip(values, 0, (1 << bit_depth) - 1) >> (bit_depth - 8)).astype(np.uint8)


def _used_bits(values: np.ndarray) -> int:
    lowest, highest = int(values.min()), int(values.max())
    fitting = [depth for depth in BIT_DEPTHS if highest < 1 << depth]
    if lowest < 0 or not fitting:
        raise UnreadPixels(
            f"the image holds values from {lowest} to {highest}: expected 0 to 65535; save it with 8 or 16 bits "
            "without sign, or name by --bit-depth the bits that count"
        )
    return fitting[0]


def eight_bit(image: Image.Image, source: Path | str | bytes, bit_depth: int = 0) -> Image.Image:
    """Decode an image file that is opened, to a picture of at most eight bits a channel.

    `source` is the file again, or its bytes. Pictures of more bits become L or RGB by `to_eight_bits` and lose their
    alpha; their EXIF stays. Raises UnreadPixels for those without a known range; what Pillow raises on broken files.
    """
    deep = _is_deep_colour(image)
    image.load()
    if image.mode == "F":
        raise UnreadPixels("the image holds floating-point pixels, whose range is not known: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        values = to_eight_bits(np.asarray(image), bit_depth)
        values = 255 - values if is_deep_negative(image) else values
    elif deep and bit_depth != 16 and (bit_depth or _max_colour(image) < 1 << 6):
        values = to_eight_bits(_colour_values(source, image)[..., :3], bit_depth)
    else:  # of colours of 16 bits, Pillow has kept the upper eight
        return image
    picture = Image.fromarray(values)
    picture.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return picture


def deep_values(image: Image.Image, source: Path | str | bytes, bit_depth: int = 0) -> np.ndarray | None:
    """The values of an image file of more than eight bits a channel, as they are stored; None for all others.

    Where 0 is white, they are turned over within the bits that they use, as Pillow does with eight bits. Takes and
    raises what `eight_bit` does. None for CMYK too where `bit_depth` is 16, as Pillow keeps the upper eight bits.
    Returns integers (h, w), or uint16 (h, w, 3) RGB or (h, w, 4) RGBA.
    """
    deep = _is_deep_colour(image)
    image.load()
    if image.mode.startswith("I"):
        values = np.array(image)
        return (1 << _used_bits(values)) - 1 - values if is_deep_negative(image) else values
    if image.mode == "CMYK" and bit_depth == 16:
        return None
    return _colour_values(source, image) if deep else None


def is_negative(image: Image.Image) -> bool:
    """Whether 0 is white in an opened or decoded TIFF of one channel."""
    return image.format == "TIFF" and _tag(image, _PHOTOMETRIC) == 0


def is_deep_negative(image: Image.Image) -> bool:
    """Whether 0 is white in a TIFF of more than eight bits, which Pillow leaves as it is; it turns others over."""
    return image.mode.startswith("I") and is_negative(image)


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether an opened file holds colours of 16 bits, of which Pillow drops the lower eight. Decoding hides it."""
    if image.mode not in ("RGB", "RGBA", "CMYK"):
        return False
    bits = _tag(image, _BITS) if image.format == "TIFF" else 8
    if _tag(image, _PLANES) == 2 and max(bits if isinstance(bits, tuple) else (bits,)) > 8:
        raise UnreadPixels(
            "the TIFF keeps channels of 16 bits in planes of their own: save it with interleaved channels"
        )
    raw_modes = (tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in getattr(image, "tile", ()) if tile[3])
    return any(";16" in str(mode) for mode in raw_modes)


def _tag(image: Image.Image, number: int) -> Any:
    return getattr(image, "tag_v2", {}).get(number)


def _max_colour(image: Image.Image) -> int:
    colours = 4 if image.mode == "CMYK" else 3
    return max(highest for _, highest in image.getextrema()[:colours])  # pyright: ignore[reportIndexIssue, reportGeneralTypeIssues]


def _colour_values(source: Path | str | bytes, image: Image.Image) -> np.ndarray:
    """Read colours of 16 bits by OpenCV, once Pillow has decoded the file: so it is whole, and of an allowed size."""
    if image.mode == "CMYK":
        raise UnreadPixels(
            "the image holds CMYK of 16 bits, whose lower bits cannot be read: save it as RGB, or say --bit-depth 16 "
            "if its values use all 16"
        )
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # also for what is beyond its own limits: 2**30 pixels, 2**20 a side
        values = None
    if values is None or values.dtype != np.uint16 or values.shape[:2] != (image.height, image.width):
        raise UnreadPixels("its colours of 16 bits cannot be read by OpenCV: save it as PNG, and smaller if it is huge")
    # A colour that PNG declares transparent, and TIFF's fourth channel of no meaning, are no alpha to Pillow.
    if image.mode == "RGB":
        return cv2.cvtColor(np.ascontiguousarray(values[..., :3]), cv2.COLOR_BGR2RGB)
    return cv2.cvtColor(values, cv2.COLOR_BGRA2RGBA)
