"""What the model in the box is bad at: photos on which two clicks do not suffice."""

from pathlib import Path

from pipeline.drawing.overlays import overlay
from tools.pictures.panels import row
from tools.pictures.photos import Photos

CASES = {
    "One click on a part marks the part.": ("motorcycle_left", [(300, 250, True)]),
    "A lattice is filled.": ("rocket", [(185, 250, True)]),
    "Clicks on two objects mark parts of others.": ("coins", [(67, 85, True), (545, 68, True)]),
}


def draw(photos: Photos, path: Path) -> None:
    """Draw each case with its clicks and the mask."""
    pictures = []
    for title, (name, clicks) in CASES.items():
        image = photos.photo(name)
        session = photos.predictor.open(image)
        for x, y, positive in clicks:
            session.click(y=y, x=x, positive=positive)
        pictures.append((title, overlay(image, session.mask, None, session.clicks, longest_side=600)[:400]))
    row(pictures, path, width=3.6)
