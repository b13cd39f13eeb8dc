"""Named spaces of a sweep. To add one: a function here, and a line in SPACES.

Names are dotted: `refine.` and a field of Refinement, or for training what `jobs.train` calls its flags. Single values
of a grid beside a range keep grids small; random search and Optuna use the whole range.
"""

from collections.abc import Callable

from models.errors import InputError
from pipeline.tuning.parameters import Choice, Parameter, Range

Space = dict[str, Parameter]
THRESHOLD: Space = {"refine.mask_threshold": Range(0.3, 0.7, grid=(0.49,))}


def cfr() -> Space:
    """CFR-ICL's cascade: how many passes, fixed or adaptive, on which clicks."""
    return {
        "refine.cascade.steps": Range(0, 8, grid=(0, 1, 2, 4)),
        "refine.cascade.adaptive": Choice((False, True)),
        "refine.cascade.pixels": Range(0, 500, grid=(20,)),
        "refine.cascade.on_first_clicks": Choice((1, 3, None), grid=(1, None)),
        **THRESHOLD,
    }


def focus() -> Space:
    """FocusCut's close-ups: which clicks get them, how near, how they progress."""
    return {
        "refine.focus.clicks": Choice(("all", "newest")),
        "refine.focus.min_area_ratio": Range(0.05, 0.5, grid=(0.2,)),
        "refine.focus.margin": Range(1.25, 2.5, grid=(1.75,)),
        "refine.focus.turns": Range(1, 4, grid=(1, 3)),
        "refine.focus.growth": Range(1.0, 1.5, grid=(1.1,)),
        "refine.focus.erosion": Range(0.0, 4.0, grid=(2.0,)),
        "refine.focus.fixed_ratio": Choice((None, 0.6, 0.8), grid=(None, 0.8)),
        "refine.focus.smallest": Range(0.1, 0.5, grid=(0.2,)),
        "refine.focus.iterative": Choice((True, False), grid=(True,)),
        **THRESHOLD,
    }


def zoom_in() -> Space:
    """The look at the object's box after the first clicks."""
    return {
        "refine.zoom_in.expansion": Range(1.1, 2.0, grid=(1.2, 1.4, 1.8)),
        "refine.zoom_in.min_crop_size": Choice((100, 200, 300), grid=(200,)),
        "refine.zoom_in.skip_clicks": Choice((-1, 0, 1, 2, 3), grid=(0, 1, 3)),
        "refine.zoom_in.recompute_iou": Range(0.1, 0.9, grid=(0.5,)),
        **THRESHOLD,
    }


def split() -> Space:
    """When the heavy half of a split network runs: once a session, or again where a zoom changes the view."""
    return {
        "refine.zoom_in": Choice((None, {})),
        "refine.split.encode": Choice(("on_zoom", "every_click"), grid=("on_zoom",)),
        "refine.split.base_steps": Range(0, 3, grid=(0,)),
        **THRESHOLD,
    }


def threshold() -> Space:
    """The probability above which a pixel belongs to the mask."""
    return {"refine.mask_threshold": Range(0.2, 0.8, grid=(0.3, 0.4, 0.49, 0.6, 0.7))}


def icl() -> Space:
    """Training: the weights of the iterative click loss, how many outputs it scores, the rate, SUEM's odds."""
    return {
        "training.icl.betas": Choice(
            ([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [1.0, 2.0], [1.0]), grid=([1.0, 2.0, 3.0], [1.0])
        ),
        "training.optimizer.lr": Range(1e-6, 1e-3, grid=(5e-5, 5e-4), log=True),
        "data.copy_paste.prob": Range(0.0, 0.9, grid=(0.5,)),
    }


SPACES: dict[str, Callable[[], Space]] = {
    "cfr": cfr,
    "focus": focus,
    "zoom_in": zoom_in,
    "split": split,
    "threshold": threshold,
    "icl": icl,
}


def narrowed(space: Space, given: dict[str, Parameter]) -> Space:
    """A space with parameters replaced, or added. Raises InputError for a name without its beginning."""
    for name in given:
        if "." not in name:
            raise InputError(f"{name}: expected a dotted name, such as {next(iter(space))}")
    return {**space, **given}
