"""A computed mask, run-length encoded as it is sent, with what an answer states about it."""

from dataclasses import dataclass

import numpy as np

from models import rle
from models.interaction import Click
from models.rle import Rle


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """An encoded mask, its area and box, and the model that made it.

    `honoured`: whether the mask at the last click agrees with the click's sign; None without clicks.
    """

    encoded: Rle
    area: int
    bbox_xywh: list[int]
    honoured: bool | None
    model_version: str

    @property
    def mask(self) -> np.ndarray:
        """The mask, bool (h, w), decoded on each access."""
        return rle.decode(self.encoded)

    @staticmethod
    def of(runs: np.ndarray, hw: tuple[int, int], clicks: tuple[Click, ...], model_version: str) -> "Made":
        """Describe the mask of size `hw` that `clicks` made, given as run lengths."""
        honoured = None
        if clicks:
            last = clicks[-1]
            honoured = rle.holds(runs, hw[0], int(last.y + 0.5), int(last.x + 0.5)) == last.positive
        area, box = rle.area_and_box(runs, hw[0])
        return Made(
            encoded=rle.of_runs(runs, hw),
            area=area,
            bbox_xywh=box,
            honoured=honoured,
            model_version=model_version,
        )


def area_and_box(encoded: Rle) -> tuple[int, list[int]]:
    """Return the area and the box [x, y, width, height] of an encoded mask, without decoding its pixels."""
    height, width = encoded["size"]
    return rle.area_and_box(rle.decode_runs(encoded, (height, width)), height)


def bbox_xywh(mask: np.ndarray) -> list[int]:
    """Return the smallest box around a bool mask as [x, y, width, height]; zeros for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return [0, 0, 0, 0]
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]


def patch_between(before: np.ndarray | None, mask: np.ndarray) -> tuple[list[int], bytes]:
    """Return the box [x, y, width, height] of the pixels that changed, and the bits of `mask` in it, row by row.

    Masks are bool (h, w); `before` None means an empty mask. This is the least that a page needs for painting.
    """
    box = bbox_xywh(mask if before is None else mask ^ before)
    x, y, width, height = box
    return box, np.packbits(mask[y : y + height, x : x + width]).tobytes()
