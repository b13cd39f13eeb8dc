"""SUEM copy-paste (docs/PAPERS.md, CFR-ICL): what each mode makes of a cup and a rocket."""

from pathlib import Path

import cv2

from pipeline.data import copy_paste
from tools.pictures.panels import outlined, row
from tools.pictures.photos import Photos

CUP = (270, 210, True)
ROCKET = (295, 230, True)
BLEND = 0.75


def draw(photos: Photos, path: Path) -> None:
    """Draw sample, partner and the five modes, each with the outline of its target."""
    image, partner = photos.photo("coffee"), photos.photo("rocket")
    partner = cv2.resize(partner, image.shape[1::-1])
    target, foreign = photos.mask(image, CUP), photos.mask(partner, ROCKET)
    made = {
        "simple": copy_paste.simple(image, target, partner, BLEND),
        "union": copy_paste.union(image, target, partner, foreign),
        "exclusion": copy_paste.exclusion(image, target, partner, foreign),
        "mixing": copy_paste.mixing(image, target, partner, BLEND),
        "distract (in the public code only)": copy_paste.distract(image, target, partner, foreign, BLEND),
    }
    pictures = [
        ("sample, with its target", outlined(image, target)),
        ("partner, with its object", outlined(partner, foreign)),
    ]
    pictures += [(title, outlined(*pair)) for title, pair in made.items()]
    row(pictures, path, columns=4)
