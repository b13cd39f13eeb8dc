"""Named search spaces of a sweep. Each part of a refinement has one; to add another, write a function and register it.

Names are dotted: `refine.` and a field of Refinement, or a flag of `jobs.train`. A range may name a few grid points,
which keep grid searches small; random search and Optuna use the whole range.
"""

from collections.abc import Callable

from models.errors import InputError
from models.parameters import Choice, Parameter, Range
from models.refinement import PARTS, Cascade, Split
from models.refinement.part import Part

Space = dict[str, Parameter]
THRESHOLD: Space = {"refine.mask_threshold": Range(0.3, 0.7, grid=(0.49,))}


def of_part(kind: type[Part]) -> Callable[[], Space]:
    """Return the space of a refinement's part: the parameters that it declares, and the mask threshold."""

    def space() -> Space:
        return {**{f"refine.{kind.name}.{field}": each for field, each in kind.sweep.items()}, **THRESHOLD}

    space.__doc__ = kind.__doc__
    return space


def cfr() -> Space:
    """CFR-ICL's cascade: number of passes, fixed or adaptive, and on which clicks."""
    return of_part(Cascade)()


def split() -> Space:
    """When the heavy half of a split network runs: once per session, or again if a zoom changes the view."""
    return {"refine.zoom_in": Choice((None, {})), **of_part(Split)()}


def threshold() -> Space:
    """The probability above which a pixel belongs to the mask."""
    return {"refine.mask_threshold": Range(0.2, 0.8, grid=(0.3, 0.4, 0.49, 0.6, 0.7))}


def icl() -> Space:
    """Training: weights and number of scored outputs of the iterative click loss, learning rate, SUEM's probability."""
    return {
        "training.icl.betas": Choice(
            ([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [1.0, 2.0], [1.0]), grid=([1.0, 2.0, 3.0], [1.0])
        ),
        "training.optimizer.lr": Range(1e-6, 1e-3, grid=(5e-5, 5e-4), log=True),
        "data.copy_paste.prob": Range(0.0, 0.9, grid=(0.5,)),
    }


def spaces() -> dict[str, Callable[[], Space]]:
    """Return all spaces by name: one for each part of a refinement, and the others."""
    parts = {name: of_part(kind) for name, kind in PARTS.items() if kind.sweep}
    return {"cfr": cfr, **parts, "split": split, "threshold": threshold, "icl": icl}


SPACES = spaces()


def narrowed(space: Space, given: dict[str, Parameter]) -> Space:
    """Return a space with parameters replaced or added; raises InputError for a name that is not dotted."""
    for name in given:
        if "." not in name:
            raise InputError(f"{name}: expected a dotted name, such as {next(iter(space))}")
    return {**space, **given}
