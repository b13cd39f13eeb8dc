"""Options for decoding image files, in one record for jobs and server."""

from dataclasses import dataclass
from typing import Literal

from models.records import Positive, Record

Exif = Literal["auto", "upright", "stored"]

BIT_DEPTHS = (8, 10, 12, 14, 16)


@dataclass(frozen=True, kw_only=True)
class Decoding(Record):
    """Options for reading image files where the file leaves a choice or programs disagree.

    The configs of jobs inherit these fields, so that all jobs have the same flags; readers hold the record.
    """

    exif: Exif = "auto"
    """Orientation of photos with an EXIF orientation tag: upright (as viewers show them), stored (as in the file), or
    auto (the orientation that the masks of this data set format refer to)."""
    bit_depth: Literal[8, 10, 12, 14, 16, 0] = 0
    """Bits that the values of a 16-bit image use: 8, 10, 12, 14 or 16 (larger values become white); 0: the smallest of
    these that holds the image's largest value."""
    max_megapixels: Positive = 64
    """Largest image to decode, in million pixels; larger ones are refused before decoding."""

    @property
    def max_pixels(self) -> int:
        """The size limit in pixels."""
        return self.max_megapixels * 1_000_000

    def decoding(self) -> "Decoding":
        """Return these fields alone, for a config that inherits them."""
        return Decoding(exif=self.exif, bit_depth=self.bit_depth, max_megapixels=self.max_megapixels)


AS_IT_COMES = Decoding()
"""The default options, which follow each file and data set."""
