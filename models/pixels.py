"""Read image files of more than eight bits per channel, as stored values or as a uint8 picture.

16-bit files often hold values of 10, 12 or 14 bits. Their headers do not say so, so the bits are inferred from the
largest value.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from models.decoding import BIT_DEPTHS

_PLANES = 284  # TIFF's tag PlanarConfiguration: 2 if each channel is stored separately
_BITS = 258
_PHOTOMETRIC = 262  # 0 if the value 0 is white


class UnreadPixels(ValueError):
    """An intact file holds pixels of an unsupported kind; the message says what to do."""


def to_eight_bits(values: np.ndarray, bit_depth: int = 0) -> np.ndarray:
    """Return the upper eight of the bits that `values` (integers of any shape) use, as uint8.

    `bit_depth` 0 is the smallest of BIT_DEPTHS that holds the largest value; raises UnreadPixels if none does or a
    value is negative. With any other `bit_depth`, values below its range become black and values above it white.
    """
    bit_depth = bit_depth or _used_bits(values)
    return (np.clip(values, 0, (1 << bit_depth) - 1) >> (bit_depth - 8)).astype(np.uint8)


def _used_bits(values: np.ndarray) -> int:
    lowest, highest = int(values.min()), int(values.max())
    fitting = [depth for depth in BIT_DEPTHS if highest < 1 << depth]
    if lowest < 0 or not fitting:
        raise UnreadPixels(
            f"the image holds values from {lowest} to {highest}: expected 0 to 65535; save it with 8 or 16 unsigned "
            "bits, or pass --bit-depth with the number of bits to use"
        )
    return fitting[0]


def eight_bit(image: Image.Image, source: Path | str | bytes, bit_depth: int = 0) -> Image.Image:
    """Decode an opened image file to a picture of at most eight bits per channel.

    `source` is the same file, or its bytes. Pictures of more bits become L or RGB through `to_eight_bits`; they keep
    their EXIF and lose their alpha. Raises UnreadPixels if the range of values is unknown, and Pillow's errors for
    broken files.
    """
    deep = _is_deep_colour(image)
    image.load()
    if image.mode == "F":
        raise UnreadPixels("the image holds floating-point pixels, whose range is unknown: save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        values = to_eight_bits(np.asarray(image), bit_depth)
        values = 255 - values if is_deep_negative(image) else values
    elif deep and bit_depth != 16 and (bit_depth or _max_colour(image) < 1 << 6):
        values = to_eight_bits(_colour_values(source, image)[..., :3], bit_depth)
    else:  # Pillow has kept the upper eight of 16 bits
        return image
    picture = Image.fromarray(values)
    picture.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return picture


def deep_values(image: Image.Image, source: Path | str | bytes, bit_depth: int = 0) -> np.ndarray | None:
    """Return the stored values of an image file of more than eight bits per channel; None for other files.

    The result is integers (h, w), or uint16 (h, w, 3) RGB or (h, w, 4) RGBA. Where 0 is white, values are inverted
    within the bits that they use, as Pillow does with eight bits. None also for CMYK with `bit_depth` 16, since Pillow
    keeps the upper eight bits. Takes the arguments of `eight_bit` and raises its errors.
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
    """Whether 0 is white in an opened or decoded one-channel TIFF."""
    return image.format == "TIFF" and _tag(image, _PHOTOMETRIC) == 0


def is_deep_negative(image: Image.Image) -> bool:
    """Whether 0 is white in a TIFF of more than eight bits; Pillow does not invert these, as it does others."""
    return image.mode.startswith("I") and is_negative(image)


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether an opened, not yet decoded file holds 16-bit colours, of which Pillow drops the lower eight bits."""
    if image.mode not in ("RGB", "RGBA", "CMYK"):
        return False
    bits = _tag(image, _BITS) if image.format == "TIFF" else 8
    if _tag(image, _PLANES) == 2 and max(bits if isinstance(bits, tuple) else (bits,)) > 8:
        raise UnreadPixels("the TIFF stores its 16-bit channels in separate planes: save it with interleaved channels")
    raw_modes = (tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in getattr(image, "tile", ()) if tile[3])
    return any(";16" in str(mode) for mode in raw_modes)


def _tag(image: Image.Image, number: int) -> Any:
    return getattr(image, "tag_v2", {}).get(number)


def _max_colour(image: Image.Image) -> int:
    colours = 4 if image.mode == "CMYK" else 3
    return max(highest for _, highest in image.getextrema()[:colours])  # pyright: ignore[reportIndexIssue, reportGeneralTypeIssues]


def _colour_values(source: Path | str | bytes, image: Image.Image) -> np.ndarray:
    """Read 16-bit colours with OpenCV, after Pillow has shown that the file is intact and of an allowed size."""
    if image.mode == "CMYK":
        raise UnreadPixels(
            "the image holds 16-bit CMYK, whose lower bits cannot be read: save it as RGB, or pass --bit-depth 16 "
            "if its values use all 16 bits"
        )
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # also beyond OpenCV's limits: 2**30 pixels, 2**20 a side
        values = None
    if values is None or values.dtype != np.uint16 or values.shape[:2] != (image.height, image.width):
        raise UnreadPixels("the image's 16-bit colours cannot be read: save it as PNG, and smaller if it is huge")
    # Pillow reports no alpha for a PNG's transparent colour and for a TIFF's unspecified fourth channel.
    if image.mode == "RGB":
        return cv2.cvtColor(np.ascontiguousarray(values[..., :3]), cv2.COLOR_BGR2RGB)
    return cv2.cvtColor(values, cv2.COLOR_BGRA2RGBA)
