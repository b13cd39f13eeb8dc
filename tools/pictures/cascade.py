"""Cascade-forward refinement (docs/PAPERS.md, CFR-ICL): the mask after each pass on the same click."""

from pathlib import Path

import numpy as np

from pipeline.drawing.overlays import TINT
from tools.pictures.panels import dotted, row
from tools.pictures.photos import Photos

CLICK = (330, 190, True)
PASSES = 4
REMOVED, ADDED = (215, 40, 50), (30, 170, 70)


def draw(photos: Photos, path: Path) -> None:
    """Draw the first pass, and what the fourth changed of it."""
    image = photos.photo("chelsea")
    pictures = [("one click", dotted(image, CLICK))]
    before = None
    for number in (0, 1, PASSES):
        session = photos.predictor.refined("standard" if number == 0 else f"cfr_{number}").open(image)
        session.click(y=CLICK[1], x=CLICK[0], positive=CLICK[2])
        title = "the network's answer" if number == 0 else f"after {number} more pass{'es' if number > 1 else ''}"
        pictures.append((title, tinted(image, session.mask, before)))
        before = session.mask if before is None else before
    row(pictures, path, columns=2, width=4)


def tinted(image: np.ndarray, mask: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """Return the image with the mask tinted blue; what `before` lacked in green, what it had beyond in red."""
    picture = image.astype(float)
    layers = [(mask, TINT)]
    if before is not None:
        layers = [(mask & before, TINT), (mask & ~before, ADDED), (before & ~mask, REMOVED)]
    for where, colour in layers:
        picture[where] = 0.45 * picture[where] + 0.55 * np.array(colour)
    return picture.astype(np.uint8)
