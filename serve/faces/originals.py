"""Files as annotation tools keep them: TIFF, BMP and GIF become PNG before anyone else decodes them."""

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
    """Name the format of STARTS that the first bytes belong to."""
    return next((name for name, starts in STARTS.items() if data.startswith(starts)), None)


def original_hw(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Height and width of what `as_png` makes, from the header alone; raises as `serve.wire.images.image_hw`."""
    name = original_format(data)
    if name is None:
        return image_hw(data, max_pixels)
    with header_of(data, max_pixels, name) as image:  # of a turned TIFF, Pillow gives the size as displayed
        return image.height, image.width


def as_png(data: bytes, max_pixels: int, bit_depth: int = 0) -> bytes:
    """Write the first picture of a TIFF, BMP or GIF file as a PNG of its pixels, 16 bits where it has more than eight.

    Files of 16 bits in which 0 is white, or of CMYK, become the picture of eight bits that they show: `bit_depth` says
    which of their bits count. Other files come back as they are. Raises Problem: image_too_large (from the header),
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
        raise Problem("unsupported_image", f"the TIFF holds values beyond 0 to {MOST}: expected 8 or 16 bits")
    values = values.astype(np.uint16)
    colours = values if values.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(values[..., :3]), cv2.COLOR_RGB2BGR)
    ok, data = cv2.imencode(".png", colours, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert ok
    return data.tobytes()
