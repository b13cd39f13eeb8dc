"""How image files become pixels: the choices that a file leaves open, in one record for jobs and server."""

from dataclasses import dataclass
from typing import Literal

from models.records import Positive, Record

Exif = Literal["auto", "upright", "stored"]

BIT_DEPTHS = (8, 10, 12, 14, 16)


@dataclass(frozen=True, kw_only=True)
class Decoding(Record):
    """What a file of pixels does not say, or says in a way that programs read differently.

    Configs of jobs inherit these fields, so that each has the same flags; readers hold the record.
    """

    exif: Exif = "auto"
    """Which way up photos with an EXIF orientation are read: upright as people see them, stored as their pixels lie in
    the file, or auto: as the masks of this kind of data set refer to them."""
    bit_depth: Literal[8, 10, 12, 14, 16, 0] = 0
    """Bits that the values of a 16-bit image use: 8, 10, 12, 14 or 16 (what is beyond is white); 0: the fewest of these
    that hold its largest value."""
    max_megapixels: Positive = 64
    """Images of more million pixels are refused before they are decoded."""

    @property
    def max_pixels(self) -> int:
        """The limit in pixels."""
        return self.max_megapixels * 1_000_000

    def decoding(self) -> "Decoding":
        """These fields alone, of a config that inherits them."""
        return Decoding(exif=self.exif, bit_depth=self.bit_depth, max_megapixels=self.max_megapixels)


AS_IT_COMES = Decoding()
"""The default: as each file and data set says."""
