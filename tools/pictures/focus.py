"""FocusCut's close-ups (docs/PAPERS.md, FocusCut): what the network sees around a click that corrects a detail."""

import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from models.steps import Segment
from pipeline.drawing.overlays import overlay
from tools.pictures.cascade import tinted
from tools.pictures.panels import row
from tools.pictures.photos import Photos

FIRST, DETAIL = (330, 190, True), (480, 280, False)


def draw(photos: Photos, path: Path) -> None:
    """Draw the mask before the close-ups, three close-ups, and what they changed."""
    image = photos.photo("chelsea")
    predictor = copy.copy(photos.predictor.refined("focus"))
    views: list[np.ndarray] = []
    answer = predictor.answer

    def watched(requests: list[Any]) -> list[Any]:
        views.extend(as_picture(request.image) for request in requests if isinstance(request, Segment))
        return answer(requests)

    predictor.answer = watched
    session = predictor.open(image)
    for x, y, positive in (FIRST, DETAIL):
        seen = len(views)
        session.click(y=y, x=x, positive=positive)
    (_, before), *_ = session.passes()
    close_ups = [framed(view, image.shape[:2]) for view in views[seen:]][:3]
    assert close_ups, "the click corrected no detail"
    pictures = [
        ("two clicks, without close-ups", overlay(image, before, None, session.clicks, longest_side=600)),
        *((f"close-up {number} (black: beyond the image)", view) for number, view in enumerate(close_ups, 1)),
        ("with close-ups: added, removed", tinted(image, session.mask, before)),
    ]
    row(pictures, path, width=3.0)


def as_picture(view: Any) -> np.ndarray:
    """Return a view (3, height, width) in 0..1 as uint8 RGB."""
    return (view.permute(1, 2, 0).numpy() * 255).astype(np.uint8)


def framed(view: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Return a square view in the middle of a white picture of this height and width."""
    picture = np.full((*hw, 3), 255, np.uint8)
    side = min(hw)
    top, left = (hw[0] - side) // 2, (hw[1] - side) // 2
    picture[top : top + side, left : left + side] = cv2.resize(view, (side, side))
    return picture
