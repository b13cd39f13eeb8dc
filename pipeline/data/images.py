"""Read image files as uint8 RGB and mask files as raw values; whatever is wrong with a file becomes a ValueError."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from PIL import Image

from models.decoding import AS_IT_COMES, Decoding
from models.image_files import opened
from models.pixels import eight_bit
from pipeline.data.orientation import FORMATS, Header, no_image, read_header, reads_upright, turned

T = TypeVar("T")


def decode_file(source: Path | str | bytes, decoding: Decoding, decode: Callable[[Image.Image], T]) -> T:
    """Open a file, check its size in the header before any pixel is allocated, and `decode` it completely.

    Raises ValueError if the file is missing, empty, too large, not an image or broken.
    """
    try:
        with opened(source, FORMATS, decoding.max_pixels) as image:
            return decode(image)
    except FileNotFoundError as error:
        raise ValueError("the file does not exist") from error
    except Image.UnidentifiedImageError as error:
        raise no_image(source) from error
    except ValueError:
        raise
    # On broken bytes the decoders raise many types, from OSError to struct.error; to a caller all mean the same.
    except Exception as error:
        raise ValueError(f"the image file is broken or cut short ({error})") from error


def _open(source: Path | str | bytes, decoding: Decoding) -> Image.Image:
    """Open and fully decode an image, to at most eight bits per channel."""
    return decode_file(source, decoding, lambda image: eight_bit(image, source, decoding.bit_depth))


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Convert an image of any 8-bit mode to uint8 (h, w, 3); alpha is dropped."""
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    # A copy: asarray would return a read-only view of Pillow's memory, which torch refuses.
    return np.array(image.convert("RGB"))


def _read_plain_jpeg(
    source: Path | str | bytes, expected_hw: tuple[int, int] | None, decoding: Decoding = AS_IT_COMES
) -> np.ndarray | None:
    """Decode with OpenCV an image that needs nothing else: a whole RGB JPEG of the expected size; None for all others.

    Both libraries decode with libjpeg-turbo to the same pixels, and OpenCV takes a quarter less time. Pillow reads the
    header, so its limits apply. OpenCV does not refuse a truncated file, which lacks its end marker.
    """
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        if not data.startswith(b"\xff\xd8") or not data.endswith(b"\xff\xd9"):
            return None
        with opened(data, ("JPEG",), decoding.max_pixels) as header:
            hw = (header.height, header.width)
            if header.mode != "RGB" or (expected_hw is not None and hw != tuple(expected_hw)):
                return None
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except Exception:  # Pillow reads the file next and reports what is wrong; OpenCV has other limits
        return None
    return image if image is not None and image.shape[:2] == hw else None


def read_image(
    source: Path | str | bytes,
    *,
    expected_hw: tuple[int, int] | None = None,
    upright: bool = False,
    decoding: Decoding = AS_IT_COMES,
) -> np.ndarray:
    """Read an image file or its bytes as uint8 RGB (h, w, 3); raises ValueError if that fails.

    `decoding.exif` says whether a photo is read upright or as it is stored. With auto it is read so that it has the
    size `expected_hw`, which its annotations declare; if both orientations have it, or no size is declared, `upright`
    decides. Raises ValueError if neither has that size, or if the one that `decoding.exif` requires does not.
    """
    data = _bytes(source)
    pixels = _read_plain_jpeg(data, None, decoding)
    if pixels is None:
        pixels = _to_rgb(_open(data, decoding))
    header = read_header(data)
    masks = None if expected_hw is None else Header(hw=(expected_hw[0], expected_hw[1]))
    return turned(pixels, header, reads_upright(header, masks, decoding.exif, upright))


def _bytes(source: Path | str | bytes) -> bytes:
    try:
        return source if isinstance(source, bytes) else Path(source).read_bytes()
    except FileNotFoundError as error:
        raise ValueError("the file does not exist") from error
    except OSError as error:
        raise ValueError(f"the image file is broken or cut short ({error})") from error


def read_labels(
    source: Path | str | bytes, *, palette_index: bool = True, decoding: Decoding = AS_IT_COMES
) -> np.ndarray:
    """Read a mask file's raw values: integer (h, w), or uint8 (h, w, 3) for a colour mask; ValueError if unreadable.

    A palette file returns its indices, or its colours if `palette_index` is False. Alpha is dropped.
    """
    image = decode_file(source, decoding, loaded)
    return label_values(image, palette_index)


def loaded(image: Image.Image) -> Image.Image:
    """Decode an opened file without converting it."""
    image.load()
    return image


def label_values(image: Image.Image, palette_index: bool = True) -> np.ndarray:
    """Return the values of a decoded mask file, as `read_labels` does."""
    if image.mode == "P":
        return np.array(image) if palette_index else _to_rgb(image)
    if image.mode == "1" or image.mode == "LA":
        return np.array(image.convert("L"))
    if image.mode == "L" or image.mode.startswith("I"):
        return np.array(image)
    return _to_rgb(image)
