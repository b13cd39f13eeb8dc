"""Files of more than eight bits a channel, as cameras, microscopes and scanners write them, byte by byte."""

import io
import struct

import cv2
import numpy as np
from PIL import Image


def values(bits: int, shape: tuple[int, ...] = (20, 30), seed: int = 0) -> np.ndarray:
    """Return uint16 values of `bits` bits, including the largest; a second or fourth channel is opaque alpha."""
    found = np.random.default_rng(seed).integers(0, 1 << bits, shape).astype(np.uint16)
    found.flat[0] = (1 << bits) - 1
    if len(shape) == 3 and shape[2] in (2, 4):
        found[..., -1] = 65535
    return found


def png16(pixels: np.ndarray) -> bytes:
    """Encode a 16-bit PNG: gray (h, w), RGB (h, w, 3) or RGBA (h, w, 4)."""
    assert pixels.dtype == np.uint16
    if pixels.ndim == 2:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        return stream.getvalue()
    code = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
    return cv2.imencode(".png", cv2.cvtColor(pixels, code))[1].tobytes()


def tiff(pixels: np.ndarray, *, big: bool = False, planes: bool = False, photometric: int | None = None) -> bytes:
    """Encode an uncompressed TIFF of integers or floats, optionally big-endian or with a plane per channel."""
    order = ">" if big else "<"
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    bits, kind = pixels.dtype.itemsize * 8, {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    pixels = pixels.astype(pixels.dtype.newbyteorder(order))
    strips = [pixels[..., n].tobytes() for n in range(channels)] if planes else [pixels.tobytes()]
    starts = [8 + sum(len(strip) for strip in strips[:n]) for n in range(len(strips))]
    if photometric is None:
        photometric = 2 if channels > 2 else 1
    tags: list[tuple[int, str, list[int]]] = [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", [bits] * channels),
        (259, "H", [1]),
        (262, "H", [photometric]),
        (273, "I", starts),
        (277, "H", [channels]),
        (278, "I", [height]),
        (279, "I", [len(strip) for strip in strips]),
        (284, "H", [2 if planes else 1]),
        *([(338, "H", [2])] if channels in (2, 4) and photometric != 5 else []),
        (339, "H", [kind] * channels),
    ]
    body = b"".join(strips)
    body += b"\0" * (len(body) % 2)
    directory, more = struct.pack(f"{order}H", len(tags)), b""
    more_at = 8 + len(body) + 2 + 12 * len(tags) + 4
    for number, size, numbers in tags:
        packed = struct.pack(f"{order}{len(numbers)}{size}", *numbers)
        if len(packed) > 4:
            packed, more = struct.pack(f"{order}I", more_at + len(more)), more + packed
        directory += struct.pack(f"{order}HHI", number, 3 if size == "H" else 4, len(numbers)) + packed.ljust(4, b"\0")
    head = (b"MM\0*" if big else b"II*\0") + struct.pack(f"{order}I", 8 + len(body))
    return head + body + directory + bytes(4) + more


def tiff_of_cmyk(inks: np.ndarray) -> bytes:
    """Encode a TIFF of cyan, magenta and yellow (h, w, 3) without black."""
    return tiff(np.dstack([inks, np.zeros_like(inks[..., 0])]), photometric=5)
