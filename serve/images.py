"""Bytes from strangers to arrays: images and masks by Pillow, formats on a short list, limits before decoding."""

import base64
import binascii
import io
import re

import numpy as np
from PIL import ExifTags, Image, ImageOps

from models import rle
from models.errors import InputError
from serve import metrics
from serve.problems import Problem
from serve.protocol import MaskRle

FORMATS = ("JPEG", "PNG", "WEBP")
DATA_URI = re.compile(r"data:(?P<mime>[\w.+-]+/[\w.+-]+)?(?P<params>(;[\w.=+-]+)*),", re.ASCII)
MIME_OF = {"JPEG": ("image/jpeg", "image/jpg"), "PNG": ("image/png",), "WEBP": ("image/webp",)}

SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap height and width


def sniff(data: bytes) -> str | None:
    """Name the format of FORMATS that the first bytes belong to."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def decode_image(data: bytes, max_pixels: int) -> np.ndarray:
    """Decode an image file to uint8 (h, w, 3) RGB, turned as its EXIF says; transparency is dropped.

    Raises Problem: image_missing, unsupported_image, image_too_large (from the header, nothing decoded), bad_image.
    """
    if not data:
        raise Problem("image_missing", "the image is empty: expected a JPEG, PNG or WebP file")
    image = _open(data, max_pixels)
    try:
        with metrics.timed(metrics.DECODE_MS):
            image = _eight_bit(ImageOps.exif_transpose(image)).convert("RGB")
            return np.array(image, np.uint8)
    except Exception as error:  # Pillow's decoders raise nearly anything on broken files
        raise Problem("bad_image", f"the image is damaged: {_reason(error)}") from error


def image_hw(data: bytes, max_pixels: int) -> tuple[int, int]:
    """Height and width that `decode_image` would give, from the header alone where the format allows; raises alike."""
    if not data:
        raise Problem("image_missing", "the image is empty: expected a JPEG, PNG or WebP file")
    image = _open(data, max_pixels)
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS
    except Exception as error:  # a PNG may keep its EXIF behind its pixels
        raise Problem("bad_image", f"the image is damaged: {_reason(error)}") from error
    return (image.width, image.height) if turned else (image.height, image.width)


def decode_mask_png(data: bytes, hw: tuple[int, int]) -> np.ndarray:
    """Decode a mask file, PNG of 1 or 8 bits with values 0 and 255, to bool (h, w); raises Problem bad_mask."""
    if sniff(data) != "PNG":
        raise Problem("bad_mask", "the mask is not a PNG file: expected grey PNG of 1 or 8 bits, values 0 and 255")
    try:
        image = Image.open(io.BytesIO(data), formats=["PNG"])
        if (image.height, image.width) != hw:
            raise Problem("bad_mask", f"the mask is {image.width} x {image.height}: expected {hw[1]} x {hw[0]}")
        if image.mode not in ("1", "L"):
            raise Problem("bad_mask", f"the mask has the mode {image.mode}: expected grey of 1 or 8 bits")
        values = np.asarray(image.convert("L"))
    except Problem:
        raise
    except Exception as error:
        raise Problem("bad_mask", f"the mask is damaged: {_reason(error)}") from error
    if not np.isin(values, (0, 255)).all():
        raise Problem("bad_mask", "the mask holds values other than 0 and 255")
    return values > 0


def encode_mask_png(mask: np.ndarray) -> bytes:
    """Encode a bool mask (h, w) as a PNG of one bit: 0 outside, white inside."""
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).convert("1", dither=Image.Dither.NONE).save(stream, "PNG")
    return stream.getvalue()


def decode_mask_rle(body: MaskRle, hw: tuple[int, int]) -> np.ndarray:
    """Decode an RLE that must have the image's size to bool (h, w); raises Problem bad_rle."""
    try:
        return rle.decode(body.model_dump(), hw)
    except InputError as error:
        raise Problem("bad_rle", str(error), "/mask") from None


def from_base64(text: str) -> bytes:
    """Decode base64 text or a data URI; raises Problem bad_encoding, also where a URI's type and bytes disagree."""
    mime = None
    if text[:5].lower() == "data:":
        match = DATA_URI.match(text[:200])
        if match is None or not match["params"].endswith(";base64"):
            raise Problem("bad_encoding", "the data URI is malformed: expected data:image/...;base64,...", "/image")
        mime, text = match["mime"], text[match.end() :]
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Problem("bad_encoding", f"the base64 text is malformed: {_reason(error)}", "/image") from None
    found = sniff(data)
    if mime and found and mime.lower() not in MIME_OF[found]:
        raise Problem("bad_encoding", f"the data URI says {mime} but holds {found}", "/image")
    return data


def _open(data: bytes, max_pixels: int) -> Image.Image:
    name = sniff(data)
    if name is None:
        raise Problem("unsupported_image", "the file is neither JPEG nor PNG nor WebP")
    try:
        image = Image.open(io.BytesIO(data), formats=[name])
    except Image.DecompressionBombError:
        raise Problem("image_too_large", f"the image declares more than {max_pixels} pixels") from None
    except Exception as error:
        raise Problem("bad_image", f"the {name} header is damaged: {_reason(error)}") from error
    if image.width * image.height > max_pixels:
        raise Problem(
            "image_too_large", f"the image is {image.width} x {image.height}: expected at most {max_pixels} pixels"
        )
    return image


def _eight_bit(image: Image.Image) -> Image.Image:
    # Pillow clips 16-bit grey at 255 instead of scaling it, which turns most of such an image white.
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))
    return image


def _reason(error: Exception) -> str:
    # Pillow's messages may show the address of its stream object; only the words are of use.
    return re.sub(r"<[^>]*>", "the file", str(error))[:200] or type(error).__name__
