"""What a training step minimises. To add one: a file with a function, and a line in OBJECTIVES.

An objective's `terms` returns how many loss terms the step has and an iterator that computes them one after another.
The loop back-propagates each term before it asks for the next, so that memory holds one forward's graph, however many
terms.
"""

from pipeline.training.objectives.emc import base_of, correction_only, emc, split_network
from pipeline.training.objectives.exemplar import exemplar
from pipeline.training.objectives.focus import focus
from pipeline.training.objectives.icl import icl, icl_code
from pipeline.training.objectives.objective import Objective
from pipeline.training.objectives.ritm import ritm

OBJECTIVES: dict[str, Objective] = {
    "ritm": Objective(ritm),
    "icl": Objective(icl),
    "icl_code": Objective(icl_code),
    "emc": Objective(emc, frozen=split_network),
    "correction_only": Objective(correction_only, frozen=base_of),
    "focus": Objective(focus),
    "exemplar": Objective(exemplar),
}
