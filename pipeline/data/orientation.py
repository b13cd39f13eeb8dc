"""Decide which way up a photo is read: by its EXIF orientation, the size of its masks and the rest of its data set.

Cameras store pixels as the sensor records them and note how to rotate them. Most tools show photos upright, so masks
drawn with them belong to the upright photo; published data sets and older code take the pixels as stored. For a photo
rotated by 90 degrees, the size of its masks shows which of the two holds. For one that is rotated by 180 degrees,
mirrored or square it does not: then the photos of the same data set that do show it decide, and else what is usual for
this kind of data set.
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
_PROFILES = (b"Raw profile type", b"XML:com.adobe.xmp")  # PNG text chunks that may hold an orientation
_THREADS, _AT_ONCE = 8, 256  # a thread costs more than reading a local header, but less than reading one over a network


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Size of an image as its pixels are stored, and its EXIF orientation (1 to 8; 1 is upright).

    `decoded_upright`: Pillow rotates this file while it decodes it, as it does with TIFF.
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
        """Size of the image as it is read, upright or as stored."""
        return self.upright_hw if upright else self.hw


def read_header(source: Path | str | bytes) -> Header:
    """Read the header of an image file, or of its bytes; raises ValueError if it is not an image.

    An orientation that cannot be read counts as 1.
    """
    try:
        with (
            allowing(sys.maxsize),  # the decoder checks the size
            Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as image,
        ):
            height, width, decoded_upright = image.height, image.width, image.format == "TIFF"
            orientation = _orientation(image, source)
    except FileNotFoundError as error:
        raise ValueError("the file does not exist") from error
    except Image.UnidentifiedImageError as error:
        raise no_image(source) from error
    # As in images.py: on broken bytes the decoders raise many types.
    except Exception as error:
        raise ValueError(f"the image file is broken or cut short ({error})") from error
    hw = (width, height) if decoded_upright and orientation >= 5 else (height, width)
    return Header(hw=hw, orientation=orientation, decoded_upright=decoded_upright)


def no_image(source: Path | str | bytes) -> ValueError:
    """Build the error for a file, or its bytes, in which Pillow recognises none of FORMATS."""
    if not (len(source) if isinstance(source, bytes) else Path(source).stat().st_size):
        return ValueError("the file is empty (0 bytes): expected an image; copy or download it again")
    return ValueError(
        f"the file is not an image ({', '.join(FORMATS)}), or of an unsupported kind (such as 32-bit colours)"
    )


def _orientation(image: Image.Image, source: Path | str | bytes) -> int:
    try:
        # Pillow decodes all pixels of a PNG to see whether an orientation follows them.
        if image.format == "PNG" and "exif" not in image.info and not _has_profile(source):
            return 1
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # the orientation may be broken although the pixels are not
        return 1
    return found if found in range(2, 9) else 1


def _has_profile(source: Path | str | bytes) -> bool:
    """Whether a PNG has an EXIF or XMP chunk anywhere."""
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
    """Rotate the pixels (h, w, ...) of a file, as Pillow has decoded them, to lie upright or as they are stored."""
    if header.orientation == 1 or upright == header.decoded_upright:
        return pixels
    return np.ascontiguousarray(_turn(pixels, header.orientation, back=not upright))


def _turn(pixels: np.ndarray, orientation: int, back: bool) -> np.ndarray:
    """Rotate stored pixels upright, or back; EXIF 2.32, table of the tag Orientation."""
    if orientation in (6, 8):
        return np.rot90(pixels, -1 if (orientation == 6) != back else 1)
    # The others are their own inverses.
    swapped = pixels.swapaxes(0, 1) if orientation in (5, 7) else pixels
    return swapped[:: -1 if orientation in (3, 4, 7) else 1, :: -1 if orientation in (2, 3, 7) else 1]


def fits_upright(photo: Header, masks: Header) -> bool | None:
    """Whether masks fit the upright photo (True) or its stored pixels (False); None if both, ValueError if neither.

    Masks that carry an orientation lie as the photo does: both are upright, or both are as stored.
    """
    fitting = [upright for upright in (True, False) if photo.size(upright) == masks.size(upright)]
    if not fitting:
        raise ValueError(
            f"the image is {photo.hw[0]} x {photo.hw[1]} (height x width), "
            f"its annotations are {masks.hw[0]} x {masks.hw[1]}"
        )
    return fitting[0] if len(fitting) == 1 else None


def reads_upright(photo: Header, masks: Header | None, exif: Exif, otherwise: bool) -> bool:
    """Whether to read a photo upright: as `exif` says or, with auto, as its masks' size shows, else `otherwise`.

    Raises ValueError if the masks have another size than the photo as it is read.
    """
    fits = None if masks is None else fits_upright(photo, masks)
    if exif == "auto":
        return otherwise if fits is None else fits
    if fits is not None and fits != (exif == "upright") and photo.orientation != 1:
        shown = "upright" if fits else "as it is stored"
        size = photo.size(fits)
        raise ValueError(
            f"exif={exif} was given, but the annotations, {size[0]} x {size[1]} (height x width), fit the photo "
            f"{shown} (EXIF orientation {photo.orientation})"
        )
    return exif == "upright"


def most_upright(photo: Header, masks: Iterable[Header], exif: Exif, otherwise: bool) -> bool:
    """Whether to read a photo with several mask files upright: as most of them fit; the others are refused."""
    if exif != "auto":
        return exif == "upright"
    fits = Counter(photo.size(True) == mask.size(True) for mask in masks if _tells(photo, mask))
    return fits[True] > fits[False] if fits[True] != fits[False] else otherwise


def _tells(photo: Header, mask: Header) -> bool:
    return (photo.size(True) == mask.size(True)) != (photo.size(False) == mask.size(False))


def read_headers(paths: Iterable[Path]) -> Iterator[Header]:
    """Read the headers of those files that are images."""
    for path in paths:
        with contextlib.suppress(ValueError):  # it is refused by name when it is loaded
            yield read_header(path)


def tell(photo: Path, masks: Iterable[Header]) -> str:
    """Return what the sizes of a photo's masks show about how it lies: "upright", "stored" or "nothing".

    It is "" for a photo without an orientation; its `masks` are then not read.
    """
    try:
        header = read_header(photo)
    except ValueError:  # it is refused by name when it is loaded
        return ""
    if header.orientation == 1:
        return ""
    votes = Counter(header.size(True) == mask.size(True) for mask in masks if _tells(header, mask))
    return "nothing" if votes[True] == votes[False] else "upright" if votes[True] > votes[False] else "stored"


def map_files(photos: Iterable[T], look: Callable[[T], R]) -> Iterator[R]:
    """Yield `look(photo)` of each photo, in their order; several files are opened at a time."""
    waiting = iter(photos)
    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        while some := list(islice(waiting, _THREADS * _AT_ONCE)):
            parts = [some[start : start + _AT_ONCE] for start in range(0, len(some), _AT_ONCE)]
            for seen in pool.map(lambda part: [look(photo) for photo in part], parts):
                yield from seen


def settle(where: object, counts: Counter[str], usual: bool) -> bool:
    """Whether to read upright the photos of a data set whose masks' sizes do not show it; logs their number once.

    They are read as the photos that do show it (`counts` of `tell`) if these agree, else as is `usual` for the kind.
    """
    agreed = bool(counts["upright"]) != bool(counts["stored"])
    upright = bool(counts["upright"]) if agreed else usual
    if counts["nothing"]:
        why = "like those whose masks show it" if agreed else "as is usual for such a data set"
        if counts["upright"] and counts["stored"]:
            why += f" (the others disagree: {counts['upright']} upright, {counts['stored']} as stored)"
        warn_once(
            __name__,
            f"{where}: {counts['nothing']} photos carry an EXIF orientation, but the size of their masks does not show "
            f"whether they fit the upright photo: read {'upright' if upright else 'as they are stored'}, {why}; "
            "choose with exif upright or stored (--exif, --data.exif in training)",
        )
    return upright
