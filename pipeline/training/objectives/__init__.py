"""What a training step minimises. To add one: a file with a function, and a line in OBJECTIVES.

An objective's `terms` returns how many loss terms the step has and an iterator that computes them one after another.
The loop back-propagates each term before it asks for the next, so that memory holds one forward's graph, however many
terms.
"""

from pipeline.training.objectives.icl import icl, icl_code
from pipeline.training.objectives.objective import Objective

OBJECTIVES: dict[str, Objective] = {"icl": Objective(icl), "icl_code": Objective(icl_code)}
