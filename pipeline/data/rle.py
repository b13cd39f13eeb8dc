"""Convert COCO segmentations, both kinds of RLE and polygons, to run lengths or masks, and check them first."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from models.rle import decode, decode_runs, encode, mask_of

__all__ = ["decode", "encode", "from_segmentation", "runs_from_polygons", "runs_from_segmentation"]

_MAX_REACH = 4  # a polygon may extend this many image sizes outside before it counts as broken
_MAX_NESTING = 3
_POLYGON = "[x, y, x, y, ...] or [[x, y], [x, y], ...]"


def from_segmentation(segmentation: Any, hw: tuple[int, int]) -> np.ndarray:
    """Convert a COCO `segmentation` (polygons or either kind of RLE) to a bool mask of `hw`; ValueError if broken."""
    return mask_of(runs_from_segmentation(segmentation, hw), hw)


def runs_from_segmentation(
    segmentation: Any, hw: tuple[int, int], scale_xy: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """Convert a COCO `segmentation` to the runs (int64) of a mask of `hw`; raises ValueError if it is broken.

    Polygon corners are multiplied by `scale_xy`; RLE states its size, which must be `hw`.
    """
    if segmentation is None:
        raise ValueError("the segmentation is null (empty): expected polygons or RLE")
    if isinstance(segmentation, float) and not math.isfinite(segmentation):
        raise ValueError(f"the segmentation is {json.dumps(segmentation)}: expected polygons or RLE")
    if not segmentation:
        raise ValueError("the segmentation is empty")
    if isinstance(segmentation, Mapping):
        return decode_runs(segmentation, hw)
    if isinstance(segmentation, list):
        return runs_from_polygons(segmentation, hw, scale_xy)
    raise ValueError(f"the segmentation is a {type(segmentation).__name__}: expected polygons or RLE")


def runs_from_polygons(
    polygons: Sequence[Any], hw: tuple[int, int], scale_xy: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """Fill the union of polygons as the COCO API does and return its runs (int64); ValueError if they are broken.

    A polygon is [x, y, x, y, ...] or [[x, y], [x, y], ...]; a single one does not need a list around it.
    """
    usable = []
    for polygon in _flat(polygons):
        try:
            values = np.array(polygon, np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"a polygon is not a list of numbers: expected {_POLYGON}") from error
        if values.ndim != 1 or values.size % 2:
            raise ValueError(f"a polygon is not a list of x, y pairs: expected {_POLYGON}")
        if np.isnan(values).any():  # NumPy converts None to it, too
            raise ValueError(f"a polygon holds {'null' if None in polygon else 'NaN'}: expected numbers, {_POLYGON}")
        if bool in map(type, polygon):  # NumPy converts them to 1 and 0
            odd = next(value for value in polygon if isinstance(value, bool))
            raise ValueError(f"a polygon holds {json.dumps(odd)}: expected numbers, {_POLYGON}")
        if np.isinf(values).any():
            raise ValueError("a polygon holds Infinity, far outside the image")
        # pycocotools walks every edge pixel by pixel: a coordinate of 1e9 would exhaust its memory, not raise.
        if values.size and np.abs(values).max() > _MAX_REACH * max(*hw, 64):
            raise ValueError("a polygon has coordinates far outside the image")
        if values.size >= 6:  # fewer than three corners enclose nothing, and four numbers would count as a box
            usable.append((values.reshape(-1, 2) * scale_xy).ravel().tolist())
    if not usable:
        raise ValueError("no polygon has three corners or more")
    # Imported here because masks stored as run lengths, as in prepared shards, do not need it.
    from pycocotools import mask as coco_mask

    return decode_runs(cast(Mapping[str, Any], coco_mask.merge(coco_mask.frPyObjects(usable, *hw))), hw)


def _flat(polygons: Sequence[Any], depth: int = 0) -> list[Sequence[Any]]:
    """Return polygons as flat lists of numbers, however they and their corners are nested."""
    if any(isinstance(part, Mapping) and "counts" in part for part in polygons):
        raise ValueError(
            'the segmentation is a list of RLE: expected one, {"size": [height, width], "counts": ...}, without a list '
            "around it; merge several into one, or write an annotation for each"
        )
    if polygons and all(part is None for part in polygons):
        raise ValueError(f"a polygon is null: expected {_POLYGON}")
    if not any(isinstance(part, list) for part in polygons):
        return [polygons]
    # A polygon of two numbers is a point and encloses nothing, so a list of such pairs is a list of corners.
    if all(_is_corner(part) for part in polygons):
        return [[value for corner in polygons for value in corner]]
    if any(part is None for part in polygons):
        raise ValueError(f"a polygon is null: expected {_POLYGON}")
    if depth == _MAX_NESTING or not all(isinstance(part, list) for part in polygons):
        raise ValueError(f"a polygon is not a list of numbers: expected {_POLYGON}")
    return [polygon for part in polygons for polygon in _flat(part, depth + 1)]


def _is_corner(part: Any) -> bool:
    return isinstance(part, list) and len(part) == 2 and not any(isinstance(value, list) for value in part)
