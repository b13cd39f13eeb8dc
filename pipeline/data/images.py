"""Opening image files: formats people use, pixels as uint8 RGB, and one kind of error for everything else."""

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
    """Open a file, checking its size on the header before any pixel is allocated, and `decode` it to the end.

    Raises ValueError for everything that may be wrong with it.
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
    # On broken bytes the decoders raise many kinds, from OSError to struct.error; all mean the same to a caller.
    except Exception as error:
        raise ValueError(f"the image file is broken or cut short ({error})") from error


def _open(source: Path | str | bytes, decoding: Decoding) -> Image.Image:
    """Open and fully decode a picture, to eight bits a channel at most."""
    return decode_file(source, decoding, lambda image: eight_bit(image, source, decoding.bit_depth))


def _to_rgb(image: Image.Image) -> np.ndarray:
    """Convert any pixel mode of eight bits to uint8 (h, w, 3); alpha is dropped."""
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    # A copy: asarray would be a read-only view of Pillow's memory, and torch refuses those.
    return np.array(image.convert("RGB"))


def _read_plain_jpeg(
    source: Path | str | bytes, expected_hw: tuple[int, int] | None, decoding: Decoding = AS_IT_COMES
) -> np.ndarray | None:
    """Decode by OpenCV what needs nothing but decoding: whole JPEGs in RGB, of the expected size; None for all else.

    Both libraries decode by libjpeg-turbo to the same pixels; this way costs a quarter less. Pillow reads the header
    and so decides what is allowed. OpenCV does not refuse a file that is cut short: such a one lacks its end marker.
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
    except Exception:  # what is wrong is said by Pillow, which looks at it next; OpenCV's limits are others
        return None
    return image if image is not None and image.shape[:2] == hw else None


def read_image(
    source: Path | str | bytes,
    *,
    expected_hw: tuple[int, int] | None = None,
    upright: bool = False,
    decoding: Decoding = AS_IT_COMES,
) -> np.ndarray:
    """Read a file or its bytes as uint8 RGB (h, w, 3); ValueError if that cannot be done.

    `decoding.exif` says which way up. For auto, a photo is read upright or as it is stored so that it has the size
    `expected_hw`, which its annotations declare; `upright` decides where both do, or no size is declared. ValueError if
    neither has that size, or not the one that `decoding.exif` asks for.
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

    A palette file gives its indices, or its colours with `palette_index` False. Alpha is dropped.
    """
    image = decode_file(source, decoding, loaded)
    return label_values(image, palette_index)


def loaded(image: Image.Image) -> Image.Image:
    """Decode an opened file as it is."""
    image.load()
    return image


def label_values(image: Image.Image, palette_index: bool = True) -> np.ndarray:
    """The values of a decoded mask file, as `read_labels` gives them."""
    if image.mode == "P":
        return np.array(image) if palette_index else _to_rgb(image)
    if image.mode == "1" or image.mode == "LA":
        return np.array(image.convert("L"))
    if image.mode == "L" or image.mode.startswith("I"):
        return np.array(image)
    return _to_rgb(image)
