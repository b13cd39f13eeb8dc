"""How image files become pixels: the choices that a file leaves open, in one record for jobs and server."""

from dataclasses import dataclass
from typing import Literal, get_args

from models.errors import InputError

Exif = Literal["auto", "upright", "stored"]

BIT_DEPTHS = (8, 10, 12, 14, 16)


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What a file of pixels does not say, or says in a way that programs read differently.

    Configs of jobs inherit these fields, so that each has the same flags; readers hold the record.
    """

    exif: Exif = "auto"
    """Which way up photos with an EXIF orientation are read: upright as people see them, stored as their pixels lie in
    the file, or auto: as the masks of this kind of data set refer to them."""
    bit_depth: int = 0
    """Bits that the values of a 16-bit image use: 8, 10, 12, 14 or 16 (what is beyond is white); 0: the fewest of these
    that hold its largest value."""
    max_megapixels: int = 64
    """Images of more million pixels are refused before they are decoded."""

    def __post_init__(self) -> None:
        if self.exif not in get_args(Exif):
            raise InputError(f"exif is {self.exif!r}: expected {', '.join(get_args(Exif))}")
        if self.bit_depth not in (0, *BIT_DEPTHS):
            depths = ", ".join(map(str, BIT_DEPTHS))
            raise InputError(f"bit_depth is {self.bit_depth}: expected {depths}, or 0 to take it from each file")
        if self.max_megapixels < 1:
            raise InputError(f"max_megapixels is {self.max_megapixels}: expected 1 or more")

    @property
    def max_pixels(self) -> int:
        """The limit in pixels."""
        return self.max_megapixels * 1_000_000

    def decoding(self) -> "Decoding":
        """These fields alone, of a config that inherits them."""
        return Decoding(exif=self.exif, bit_depth=self.bit_depth, max_megapixels=self.max_megapixels)


AS_IT_COMES = Decoding()
"""The default: as each file and data set says."""
