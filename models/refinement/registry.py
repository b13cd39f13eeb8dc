"""The parts by name; to add one, add a file with it and a line here."""

from models.refinement.cascade import Cascade
from models.refinement.flip import Flip
from models.refinement.focus import Focus
from models.refinement.part import Part
from models.refinement.progressive_merge import ProgressiveMerge
from models.refinement.split import Split
from models.refinement.square_zoom import SquareZoom
from models.refinement.zoom_in import ZoomIn

PARTS: dict[str, type[Part]] = {
    part.name: part for part in (Flip, ZoomIn, SquareZoom, Cascade, Focus, Split, ProgressiveMerge)
}
"""Parts in the order of their keys in JSON."""
