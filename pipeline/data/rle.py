"""COCO segmentations in, run lengths or masks out: both kinds of RLE and polygons, checked before they are filled."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from pycocotools import mask as coco_mask

from models.rle import decode, decode_runs, encode, mask_of

__all__ = ["decode", "encode", "from_segmentation", "runs_from_polygons", "runs_from_segmentation"]

_MAX_REACH = 4  # a polygon may stray this many image sizes outside before it is called broken


def from_segmentation(segmentation: Any, hw: tuple[int, int]) -> np.ndarray:
    """Turn a COCO `segmentation` (polygons, compressed or uncompressed RLE) into a bool mask of `hw`; ValueError."""
    return mask_of(runs_from_segmentation(segmentation, hw), hw)


def runs_from_segmentation(segmentation: Any, hw: tuple[int, int]) -> np.ndarray:
    """Turn a COCO `segmentation` into the runs (int64) of a mask of `hw`; ValueError if it is broken."""
    if not segmentation:
        raise ValueError("the segmentation is empty")
    if isinstance(segmentation, Mapping):
        return decode_runs(segmentation, hw)
    if isinstance(segmentation, list):
        return runs_from_polygons(segmentation, hw)
    raise ValueError(f"the segmentation is a {type(segmentation).__name__}: expected polygons or RLE")


def runs_from_polygons(polygons: Sequence[Any], hw: tuple[int, int]) -> np.ndarray:
    """Fill the union of polygons [x, y, x, y, ...] as the COCO API does; runs (int64). ValueError if broken."""
    if polygons and all(isinstance(value, int | float) for value in polygons):
        polygons = [polygons]
    usable = []
    for polygon in polygons:
        try:
            values = np.array(polygon, np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError("a polygon is no list of numbers") from error
        if values.ndim != 1 or values.size % 2:
            raise ValueError("a polygon is no list of x, y pairs")
        # pycocotools walks every edge pixel by pixel: a coordinate of 1e9 would take its memory, not raise.
        if not np.isfinite(values).all() or (values.size and np.abs(values).max() > _MAX_REACH * max(*hw, 64)):
            raise ValueError("a polygon has coordinates far outside the image")
        if values.size >= 6:  # fewer than three corners enclose nothing, and four numbers would be taken for a box
            usable.append(values.tolist())
    if not usable:
        raise ValueError("no polygon has three corners")
    return decode_runs(cast(Mapping[str, Any], coco_mask.merge(coco_mask.frPyObjects(usable, *hw))), hw)
