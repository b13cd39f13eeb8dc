"""Convert the TIFF, BMP and GIF files of annotation tools to PNG, which all other code decodes."""

import io

import cv2
import numpy as np

from models.pixels import UnreadPixels, deep_values, eight_bit, is_deep_negative
from serve.core.problems import Problem
from serve.wire.images import header_of, image_hw, reason

STARTS = {"TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "BMP": (b"BM",), "GIF": (b"GIF87a", b"GIF89a")}
KEPT_MODES = ("1", "L", "P", "RGB")
MOST = 65535


def original_format(data: bytes) -> str | None:
    """Return the format in STARTS that the first bytes indicate, or None."""
    return next((name for name, starts in STARTS.items() if data.startswith(starts)), None)


def original_hw(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Return height and width of the result of `as_png`, from the header; raises like `serve.wire.images.image_hw`."""
    name = original_format(data)
    if name is None:
        return image_hw(data, max_pixels)
    with header_of(data, max_pixels, name) as image:  # for a rotated TIFF, Pillow returns the displayed size
        return image.height, image.width


def as_png(data: bytes, max_pixels: int, bit_depth: int = 0) -> bytes:
    """Convert the first picture of a TIFF, BMP or GIF file to PNG, of 16 bits if it has more than eight.

    Files of 16 bits in which 0 is white, and CMYK files, become 8-bit pictures as displayed; `bit_depth` says which of
    their bits count. Files of other formats are returned unchanged. Raises Problem: image_too_large (from the header),
    bad_image, unsupported_image.
    """
    name = original_format(data)
    if name is None:
        return data
    with header_of(data, max_pixels, name) as image:
        try:
            is_shown = image.mode == "CMYK" or is_deep_negative(image)
            values = None if is_shown else deep_values(image, data)
            if values is not None:
                return _of_values(values)
            image = eight_bit(image, data, bit_depth)
            stream = io.BytesIO()
            picture = image.copy() if image.mode in KEPT_MODES else image.convert("RGB")
            picture.info = {}
            picture.save(stream, "PNG", compress_level=1)
            return stream.getvalue()
        except Problem:
            raise
        except UnreadPixels as error:
            raise Problem("unsupported_image", str(error)) from None
        except Exception as error:
            raise Problem("bad_image", f"the image is damaged: {reason(error)}") from error


def _of_values(values: np.ndarray) -> bytes:
    if values.min() < 0 or values.max() > MOST:
        raise Problem("unsupported_image", f"the TIFF has values outside 0 to {MOST}: expected 8 or 16 bits")
    values = values.astype(np.uint16)
    colours = values if values.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(values[..., :3]), cv2.COLOR_RGB2BGR)
    ok, data = cv2.imencode(".png", colours, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert ok
    return data.tobytes()
