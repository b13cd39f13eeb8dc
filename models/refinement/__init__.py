"""Refinements: the steps that answer a click. Each part is written once, as a generator, and `build` composes them."""

from models.refinement.cascade import Cascade
from models.refinement.composition import Refinement, build, why_not
from models.refinement.flip import Flip
from models.refinement.focus import FAST_RATIO, Focus
from models.refinement.names import REFINEMENTS, from_dict, named, to_dict
from models.refinement.progressive_merge import ProgressiveMerge
from models.refinement.registry import PARTS
from models.refinement.split import Split
from models.refinement.square_zoom import SquareZoom
from models.refinement.state import State
from models.refinement.zoom_in import ZoomIn

__all__ = [
    "FAST_RATIO",
    "PARTS",
    "REFINEMENTS",
    "Cascade",
    "Flip",
    "Focus",
    "ProgressiveMerge",
    "Refinement",
    "Split",
    "SquareZoom",
    "State",
    "ZoomIn",
    "build",
    "from_dict",
    "named",
    "to_dict",
    "why_not",
]
