"""Open image files with a limit of pixels per call, which replaces Pillow's limit for the whole process."""

import io
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, TiffImagePlugin

BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)


# Pillow reads 16-bit grey TIFFs in which 0 is white only if they are little-endian.
TiffImagePlugin.OPEN_INFO.setdefault((TiffImagePlugin.MM, 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))


class TooLarge(ValueError):
    """The header of an image file declares more pixels than the limit."""


class _Pillow:
    """Pillow's limit, which is raised while at least one reader may exceed it."""

    lock = threading.Lock()
    num_readers = 0
    before: int | None = None


@contextmanager
def allowing(num_pixels: int) -> Iterator[None]:
    """Let Pillow open and decode `num_pixels` in this block; the previous limit returns after the last such block.

    Limits that Pillow already allows change nothing.
    """
    with _Pillow.lock:
        before = _Pillow.before if _Pillow.num_readers else Image.MAX_IMAGE_PIXELS
        beyond = before is not None and num_pixels > before
        if beyond:
            _Pillow.before, _Pillow.num_readers = before, _Pillow.num_readers + 1
            Image.MAX_IMAGE_PIXELS = max(num_pixels, Image.MAX_IMAGE_PIXELS or 0)
    try:
        yield
    finally:
        if beyond:
            with _Pillow.lock:
                _Pillow.num_readers -= 1
                if not _Pillow.num_readers:
                    Image.MAX_IMAGE_PIXELS = _Pillow.before


@contextmanager
def opened(source: Path | str | bytes, formats: Sequence[str], max_pixels: int) -> Iterator[Image.Image]:
    """Open an image file, or its bytes, in one of Pillow's `formats`; decode it inside the block.

    Raises TooLarge if the header declares more than `max_pixels`, ValueError for an empty image, and Pillow's errors
    for files that it cannot read.
    """
    with allowing(max_pixels):
        try:
            image = Image.open(_stream(source), formats=list(formats))
        except BOMBS as error:
            raise _too_large(source, formats, max_pixels, str(error)) from None
        with image:
            check_size(image.size, max_pixels)
            yield image


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Raise TooLarge for an image of more than `max_pixels`; `size` is (width, height)."""
    if size[0] * size[1] > max_pixels:
        raise TooLarge(_refusal(size[0] * size[1], max_pixels, size))


def _stream(source: Path | str | bytes) -> Path | str | io.BytesIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source


def _too_large(source: Path | str | bytes, formats: Sequence[str], max_pixels: int, text: str) -> TooLarge:
    """Build the error with the size of a file that Pillow refused to open, read by the class of its format."""
    for name in formats:
        try:
            with Image.OPEN[name][0](_stream(source), "") as image:  # pyright: ignore[reportArgumentType]
                return TooLarge(_refusal(image.width * image.height, max_pixels, image.size))
        except (SyntaxError, *BOMBS):  # not this format, or WebP, which checks the limit itself
            continue
    found = re.search(r"\d+", text)
    return TooLarge(_refusal(int(found[0]) if found else 0, max_pixels))


def _refusal(num_pixels: int, max_pixels: int, size: tuple[int, int] | None = None) -> str:
    # Rounded up, so that an image just above the limit does not seem to be within it.
    has, limit = -(-num_pixels // 100_000) / 10, max_pixels / 1_000_000
    what = f"the image is {size[0]} x {size[1]}" if size else "the image is too large"
    return f"{what}: the limit is {limit:g} megapixels and it has {has:g}; --max-megapixels raises it"
