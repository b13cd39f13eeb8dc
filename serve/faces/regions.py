"""Label Studio's regions: read clicks from an interactive context, write masks as brushes, bitmasks and polygons."""

import base64
import io
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import cv2
import numpy as np
from PIL import Image
from pydantic import BaseModel, Field

from models.interaction import Click
from serve.core.problems import Problem
from serve.faces import brush_rle
from serve.faces.by_content import Picture
from serve.faces.label_config import Control

KEY_POINTS = ("keypointlabels", "keypoint")
POLYGON_TOLERANCE = 1.0  # largest distance in pixels of a simplified outline from the exact one


class Region(BaseModel):
    """One region of the context; x and y of its value are percentages of the image's width and height."""

    type: str = ""
    to_name: str | None = None
    original_width: int | None = None
    original_height: int | None = None
    image_rotation: float | None = None
    is_positive: bool | None = None
    value: dict[str, Any] = Field(default_factory=dict)

    @property
    def label(self) -> str | None:
        """The region's label, or None."""
        named = self.value.get(self.type) or self.value.get("labels")
        return named[0] if isinstance(named, list) and named and isinstance(named[0], str) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clicked:
    """The clicks of a context, in order, and the label of their object."""

    clicks: tuple[Click, ...]
    label: str | None


def key_points(regions: Sequence[Region]) -> list[Region]:
    """Return the regions that are clicks."""
    return [region for region in regions if region.type in KEY_POINTS]


def clicks_of(points: Sequence[Region], picture: Picture, negative_labels: Sequence[str]) -> Clicked:
    """Convert at least one key point to clicks; raises bad_click, bad_request.

    A click is negative if it is marked so or has one of `negative_labels`. The last positive click labels the object.
    """
    clicks: list[Click] = []
    label: str | None = None
    height, width = picture.hw
    for region in points:
        _check_image(region, picture)
        x, y = (region.value.get(axis) for axis in ("x", "y"))
        if not (_is_percent(x) and _is_percent(y)):
            raise Problem("bad_click", "a key point is outside the image: expected x and y from 0 to 100 (percent)")
        alias = region.label in negative_labels
        positive = region.is_positive is not False and not alias
        # Rounding keeps 29 % of 100 pixels, which is slightly less than 29 in floating point, at pixel 29.
        pixels = (round(x * width / 100, 6), round(y * height / 100, 6))
        clicks.append(picture.click(*pixels, positive))
        if not alias and (positive or label is None):
            label = region.label
    return Clicked(clicks=tuple(clicks), label=label)


def mask_regions(mask: np.ndarray, control: Control, to_name: str, label: str | None) -> list[dict[str, Any]]:
    """Return a bool mask (h, w) as regions of a control: none for an empty mask, a polygon per connected component."""
    height, width = mask.shape
    labelled = {} if label is None else {control.kind: [label]}
    return [
        {
            "id": secrets.token_hex(5),
            "from_name": control.name,
            "to_name": to_name,
            "type": control.kind,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            # Constant, because the model gives no probability of the mask as a whole.
            "score": 1.0,
            "readonly": False,
            "value": value | labelled,
        }
        for value in _values(mask, control.kind)
    ]


def _values(mask: np.ndarray, kind: str) -> list[dict[str, Any]]:
    if not mask.any():
        return []
    if kind.startswith("brush"):
        return [{"format": "rle", "rle": brush_rle.encode(mask)}]
    if kind.startswith("bitmask"):
        return [{"imageDataURL": f"data:image/png;base64,{base64.b64encode(_black_on_clear(mask)).decode()}"}]
    return [{"points": points, "closed": True} for points in _polygons(mask)]


def _black_on_clear(mask: np.ndarray) -> bytes:
    grey_and_alpha = np.zeros((*mask.shape, 2), np.uint8)
    grey_and_alpha[..., 1] = mask * np.uint8(255)
    stream = io.BytesIO()
    Image.fromarray(grey_and_alpha).save(stream, "PNG")
    return stream.getvalue()


def _polygons(mask: np.ndarray) -> list[list[list[float]]]:
    """Return outlines in percent. Holes are filled, because polygons have none; the thinnest structures are lost."""
    height, width = mask.shape
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    simple = (cv2.approxPolyDP(outline, POLYGON_TOLERANCE, True).reshape(-1, 2) for outline in outlines)
    scale = 100 / np.array([width, height])
    return [((outline + 0.5) * scale).tolist() for outline in simple if len(outline) >= 3]


def _check_image(region: Region, picture: Picture) -> None:
    height, width = picture.hw
    given = (region.original_width or width, region.original_height or height)
    if given != (width, height):
        raise Problem(
            "bad_request", f"the region's image is {given[0]} x {given[1]} pixels, but the file is {width} x {height}"
        )
    if region.image_rotation:
        raise Problem("bad_request", "the image is rotated in Label Studio: rotate it back before clicking")


def _is_percent(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100
