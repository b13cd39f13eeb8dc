"""Decode untrusted image and mask files with Pillow: only a few formats, and limits checked before decoding."""

import base64
import binascii
import io
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
from PIL import ExifTags, Image, ImageOps

from models import rle
from models.errors import InputError
from models.image_files import TooLarge, allowing, opened
from models.pixels import eight_bit
from serve.core.problems import Problem
from serve.observing import metrics
from serve.wire.protocol import MaskRle

FORMATS = ("JPEG", "PNG", "WEBP")
DATA_URI = re.compile(r"data:(?P<mime>[\w.+-]+/[\w.+-]+)?(?P<params>(;[\w.=+-]+)*),", re.ASCII)
MIME_OF = {"JPEG": ("image/jpeg", "image/jpg"), "PNG": ("image/png",), "WEBP": ("image/webp",)}

SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def sniff(data: bytes) -> str | None:
    """Return the format in FORMATS that the first bytes indicate, or None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def decode_image(data: bytes, max_pixels: int, bit_depth: int = 0) -> np.ndarray:
    """Decode an image file to uint8 (h, w, 3) RGB, turned as its EXIF says; transparency is dropped.

    `bit_depth`: bits that the values of a 16-bit image use, see models/decoding.py. Raises Problem: image_missing,
    unsupported_image, image_too_large (from the header, before decoding), bad_image.
    """
    with header_of(data, max_pixels, _named(data)) as image:
        try:
            with metrics.timed(metrics.DECODE_MS):
                image = ImageOps.exif_transpose(eight_bit(image, data, bit_depth)).convert("RGB")
                return np.array(image, np.uint8)
        except Exception as error:  # Pillow's decoders raise nearly anything on broken files
            raise Problem("bad_image", f"the image is damaged: {reason(error)}") from error


def image_hw(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Return height and width of the decoded image, from the header if the format allows; raises like decode_image."""
    with header_of(data, max_pixels, _named(data)) as image:
        try:
            turned = image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS
        except Exception as error:  # a PNG may store its EXIF after its pixels
            raise Problem("bad_image", f"the image is damaged: {reason(error)}") from error
        return (image.width, image.height) if turned else (image.height, image.width)


def decode_mask_png(data: bytes, hw: tuple[int, int]) -> np.ndarray:
    """Decode a mask, a PNG of 1 or 8 bits with the values 0 and 255, to bool (h, w); raises Problem bad_mask."""
    if sniff(data) != "PNG":
        raise Problem(
            "bad_mask", "the mask is not a PNG file: expected a grey PNG of 1 or 8 bits with the values 0 and 255"
        )
    try:
        with allowing(hw[0] * hw[1]):
            image = Image.open(io.BytesIO(data), formats=["PNG"])
            if (image.height, image.width) != hw:
                raise Problem("bad_mask", f"the mask is {image.width} x {image.height}: expected {hw[1]} x {hw[0]}")
            if image.mode not in ("1", "L"):
                raise Problem("bad_mask", f"the mask has the mode {image.mode}: expected grey of 1 or 8 bits")
            values = np.asarray(image.convert("L"))
    except Problem:
        raise
    except Exception as error:
        raise Problem("bad_mask", f"the mask is damaged: {reason(error)}") from error
    if not np.isin(values, (0, 255)).all():
        raise Problem("bad_mask", "the mask has values other than 0 and 255")
    return values > 0


def encode_mask_png(mask: np.ndarray) -> bytes:
    """Encode a bool mask (h, w) as a PNG of one bit: black outside, white inside."""
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).convert("1", dither=Image.Dither.NONE).save(stream, "PNG")
    return stream.getvalue()


def decode_mask_rle(body: MaskRle, hw: tuple[int, int]) -> np.ndarray:
    """Decode an RLE of the image's size `hw` to bool (h, w); raises Problem bad_rle."""
    try:
        return rle.decode(body.model_dump(), hw)
    except InputError as error:
        raise Problem("bad_rle", str(error), "/mask") from None


def from_base64(text: str) -> bytes:
    """Decode base64 text or a data URI; raises Problem bad_encoding, also if the URI's type and its bytes differ."""
    mime = None
    if text[:5].lower() == "data:":
        match = DATA_URI.match(text[:200])
        if match is None or not match["params"].endswith(";base64"):
            raise Problem("bad_encoding", "the data URI is malformed: expected data:image/...;base64,...", "/image")
        mime, text = match["mime"], text[match.end() :]
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem("bad_encoding", f"the base64 text is malformed: {reason(error)}", "/image") from None
    found = sniff(data)
    if mime and found and mime.lower() not in MIME_OF[found]:
        raise Problem("bad_encoding", f"the data URI declares {mime} but contains {found}", "/image")
    return data


@contextmanager
def header_of(data: bytes, max_pixels: int, name: str) -> Iterator[Image.Image]:
    """Open a file of the format `name` for decoding in the block; raises image_too_large, bad_image."""
    with ExitStack() as stack:
        try:
            image = stack.enter_context(opened(data, [name], max_pixels))
        except TooLarge as error:
            raise Problem("image_too_large", str(error)) from None
        except Exception as error:
            raise Problem("bad_image", f"the {name} header is damaged: {reason(error)}") from error
        yield image


def _named(data: bytes) -> str:
    if not data:
        raise Problem("image_missing", "the image is empty: expected a JPEG, PNG or WebP file")
    name = sniff(data)
    if name is None:
        raise Problem("unsupported_image", "the file is not JPEG, PNG or WebP: convert it to one of these")
    return name


def reason(error: Exception) -> str:
    """Return a decoder's message without Python objects."""
    # Pillow's messages may contain the repr of a stream object.
    return re.sub(r"<[^>]*>", "the file", str(error))[:200] or type(error).__name__
