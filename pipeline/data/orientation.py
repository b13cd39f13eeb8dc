"""Which way up a photo is read: its EXIF orientation, the size of its masks, and the other photos of its data set.

Cameras store pixels as the sensor lies and note how to turn them. Most tools show photos turned, so that masks drawn
with them are of the upright photo; published sets and older code take the pixels as they are stored. A photo turned by
a quarter tells by its masks' size which it is. One that is turned by half, mirrored or square does not: for those the
photos of the same set that do tell decide, then what is usual for its kind.
"""

import contextlib
import io
import struct
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from models.decoding import Exif
from models.image_files import allowing
from pipeline.data.notices import warn_once

T = TypeVar("T")
R = TypeVar("R")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
_ORIENTATION = 0x0112  # the EXIF tag
_PROFILES = (b"Raw profile type", b"XML:com.adobe.xmp")  # PNG's texts that may hold an orientation
_THREADS, _AT_ONCE = 8, 256  # a thread costs more than a header, but less than a header across a network


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Size of an image as its pixels are stored, and its EXIF orientation (1 to 8; 1 is upright).

    `decoded_upright`: Pillow turns this file while it decodes it, as it does with TIFF.
    """

    hw: tuple[int, int]
    orientation: int = 1
    decoded_upright: bool = False

    @property
    def upright_hw(self) -> tuple[int, int]:
        """Size of the upright image."""
        height, width = self.hw
        return (width, height) if self.orientation >= 5 else (height, width)

    def size(self, upright: bool) -> tuple[int, int]:
        """Size of the image as it is read."""
        return self.upright_hw if upright else self.hw


def read_header(source: Path | str | bytes) -> Header:
    """Read the header of an image file, or of its bytes; ValueError if it is none.

    An orientation that cannot be read counts as none.
    """
    try:
        with (
            allowing(sys.maxsize),  # the decoder refuses what is too large
            Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image,
        ):
            height, width, decoded_upright = image.height, image.width, image.format == "TIFF"
            orientation = _orientation(image, source)
    except FileNotFoundError as error:
        raise ValueError("the file does not exist") from error
    except Image.UnidentifiedImageError as error:
        raise no_image(source) from error
    # As in images.py: on broken bytes the decoders raise many kinds.
    except Exception as error:
        raise ValueError(f"the image file is broken or cut short ({error})") from error
    hw = (width, height) if decoded_upright and orientation >= 5 else (height, width)
    return Header(hw=hw, orientation=orientation, decoded_upright=decoded_upright)


def no_image(source: Path | str | bytes) -> ValueError:
    """Build the error for a file, or its bytes, that Pillow takes for none of FORMATS."""
    if not (len(source) if isinstance(source, bytes) else Path(source).stat().st_size):
        return ValueError("the file is empty (0 bytes): expected an image; copy or download it again")
    return ValueError(
        f"the file is no {', '.join(FORMATS)} image, or of a kind that is not read (such as colours of 32 bits)"
    )


def _orientation(image: Image.Image, source: Path | str | bytes) -> int:
    try:
        # Of PNG, Pillow decodes all pixels to see whether an orientation follows them.
        if image.format == "PNG" and "exif" not in image.info and not _has_profile(source):
            return 1
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # as broken as any part of a file may be; its pixels need not be
        return 1
    return found if found in range(2, 9) else 1


def _has_profile(source: Path | str | bytes) -> bool:
    """Whether a PNG has a chunk of EXIF or XMP, wherever it stands."""
    with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as file:
        file.seek(8)
        while len(start := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", start)
            read = file.read(length) if kind in (b"tEXt", b"zTXt", b"iTXt") else b""
            if kind == b"eXIf" or read.startswith(_PROFILES):
                return True
            file.seek(length - len(read) + 4, io.SEEK_CUR)
    return False


def turned(pixels: np.ndarray, header: Header, upright: bool) -> np.ndarray:
    """Turn the pixels (h, w, ...) of a file, as Pillow has decoded them, to lie upright or as they are stored."""
    if header.orientation == 1 or upright == header.decoded_upright:
        return pixels
    return np.ascontiguousarray(_turn(pixels, header.orientation, back=not upright))


def _turn(pixels: np.ndarray, orientation: int, back: bool) -> np.ndarray:
    """Turn stored pixels upright, or back; EXIF 2.32, table of tag Orientation."""
    if orientation in (6, 8):
        return np.rot90(pixels, -1 if (orientation == 6) != back else 1)
    # The others are their own inverses.
    swapped = pixels.swapaxes(0, 1) if orientation in (5, 7) else pixels
    return swapped[:: -1 if orientation in (3, 4, 7) else 1, :: -1 if orientation in (2, 3, 7) else 1]


def fits_upright(photo: Header, masks: Header) -> bool | None:
    """Whether masks are of the upright photo (True) or of its stored pixels (False); None if both, ValueError if none.

    Masks with an orientation of their own lie as the photo does: both are upright or both are as stored.
    """
    fitting = [upright for upright in (True, False) if photo.size(upright) == masks.size(upright)]
    if not fitting:
        raise ValueError(
            f"the image is {photo.hw[0]} x {photo.hw[1]} (height x width), "
            f"its annotations are {masks.hw[0]} x {masks.hw[1]}"
        )
    return fitting[0] if len(fitting) == 1 else None


def reads_upright(photo: Header, masks: Header | None, exif: Exif, otherwise: bool) -> bool:
    """Whether to read a photo upright: as `exif` says; for auto as its masks' size tells, `otherwise` if it does not.

    ValueError if the masks are of another size than the photo is read in.
    """
    fits = None if masks is None else fits_upright(photo, masks)
    if exif == "auto":
        return otherwise if fits is None else fits
    if fits is not None and fits != (exif == "upright") and photo.orientation != 1:
        shown = "upright" if fits else "as it is stored"
        size = photo.size(fits)
        raise ValueError(
            f"exif={exif} was given, but its annotations, {size[0]} x {size[1]} (height x width), are of the photo "
            f"{shown} (EXIF orientation {photo.orientation})"
        )
    return exif == "upright"


def most_upright(photo: Header, masks: Iterable[Header], exif: Exif, otherwise: bool) -> bool:
    """Whether to read a photo upright that has several mask files: what most of them fit; the others are refused."""
    if exif != "auto":
        return exif == "upright"
    fits = Counter(photo.size(True) == mask.size(True) for mask in masks if _tells(photo, mask))
    return fits[True] > fits[False] if fits[True] != fits[False] else otherwise


def _tells(photo: Header, mask: Header) -> bool:
    return (photo.size(True) == mask.size(True)) != (photo.size(False) == mask.size(False))


def read_headers(paths: Iterable[Path]) -> Iterator[Header]:
    """Read the headers of files, of those that are images."""
    for path in paths:
        with contextlib.suppress(ValueError):  # refused by name when it is loaded
            yield read_header(path)


def tell(photo: Path, masks: Iterable[Header]) -> str:
    """What the sizes of a photo's masks tell of how it lies: "upright", "stored" or "nothing".

    It is "" for a photo without an orientation, of which `masks` are not looked at.
    """
    try:
        header = read_header(photo)
    except ValueError:  # refused by name when it is loaded
        return ""
    if header.orientation == 1:
        return ""
    votes = Counter(header.size(True) == mask.size(True) for mask in masks if _tells(header, mask))
    return "nothing" if votes[True] == votes[False] else "upright" if votes[True] > votes[False] else "stored"


def map_files(photos: Iterable[T], look: Callable[[T], R]) -> Iterator[R]:
    """Yield what `look` gives for each photo, in their order; several files are opened at a time."""
    waiting = iter(photos)
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        while some := list(islice(waiting, _THREADS * _AT_ONCE)):
            parts = [some[start : start + _AT_ONCE] for start in range(0, len(some), _AT_ONCE)]
            for seen in pool.map(lambda part: [look(photo) for photo in part], parts):
                yield from seen


def settle(where: object, counts: Counter[str], usual: bool) -> bool:
    """Whether to read upright the photos of a data set of which nothing tells; says once how many there are.

    As those lie that do tell (`counts` of `tell`), if they agree, else as is `usual` for its kind.
    """
    agreed = bool(counts["upright"]) != bool(counts["stored"])
    upright = bool(counts["upright"]) if agreed else usual
    if counts["nothing"]:
        why = "as those are whose masks tell it" if agreed else "as is usual for such a data set"
        if counts["upright"] and counts["stored"]:
            why += f" (others tell both: {counts['upright']} upright, {counts['stored']} as stored)"
        warn_once(
            __name__,
            f"{where}: {counts['nothing']} photos carry an EXIF orientation, and the size of their masks does not tell "
            f"whether these are of the upright photo: read {'upright' if upright else 'as they are stored'}, {why}; "
            "exif upright or stored (--exif, --data.exif in training) says otherwise",
        )
    return upright
