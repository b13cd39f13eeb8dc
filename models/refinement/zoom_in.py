"""Zoom-in: after the first clicks, view only a box around the object (Sofiiuk et al., f-BRS and RITM).

See docs/PAPERS.md, RITM: zoom-in.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

from models.geometry import Box, SizeRule, apply_size_rule, box_iou, contains, expand, whole
from models.networks.base import Traits
from models.parameters import Choice, Range
from models.records import Above, AtLeast, AtMost, Fraction, Positive
from models.refinement.part import ENCODED, EXEMPLAR, MOVED, Inside, Part, Slot
from models.refinement.state import Look, State, Step
from models.steps import Steps


@dataclass(frozen=True, kw_only=True)
class ZoomIn(Part):
    """Settings of zoom-in: when, and how closely, to view the object."""

    name = "zoom_in"
    slot = Slot.PLACE
    source = "f-BRS, RITM"
    sweep: ClassVar = {
        "expansion": Range(1.1, 2.0, grid=(1.2, 1.4, 1.8)),
        "min_crop_size": Choice((100, 200, 300), grid=(200,)),
        "skip_clicks": Choice((-1, 0, 1, 2, 3), grid=(0, 1, 3)),
        "recompute_iou": Range(0.1, 0.9, grid=(0.5,)),
    }

    skip_clicks: Annotated[int, AtLeast(-1)] = 1
    """Number of first clicks that view the whole image; -1: also the first click's view is resized to the zoom size."""
    expansion: Annotated[float, Above(0)] = 1.4
    """Sides of the box as a multiple of the object's."""
    min_crop_size: Annotated[int, AtLeast(1)] = 200
    """Smallest side of the box, in pixels."""
    recompute_iou: Annotated[float, AtLeast(0), AtMost(1)] = 0.5
    """Keep the box while its overlap with a newly computed one (product of the 1-D IoUs) is at least this."""
    threshold: Fraction = 0.5
    """Probability above which a pixel belongs to the object; used only to find the box."""
    size: Positive | tuple[Positive, Positive] | None = None
    """Size of the view in pixels: longest side, or (height, width); None: the network's zoom size."""

    @classmethod
    def names(cls) -> Mapping[str, Self]:
        """Named settings."""
        return {"zoom_in": cls(), "zoom_in_late": cls(skip_clicks=3)}

    def why_not(self, traits: Traits, parts: Sequence[Part]) -> Iterator[str]:
        """Yield the reasons why a network does not support this part."""
        if isinstance(traits.size, tuple) and self.size not in (None, traits.size):
            yield f"zoom_in.size {self.size}: this network takes only views of size {traits.size}"
        if traits.exemplar:
            yield f"zoom_in: {EXEMPLAR}"

    def cost(self, traits: Traits) -> str:
        """Describe the cost for a network with these traits."""
        return ENCODED if traits.prompted else MOVED if traits.split else ""

    def click(self, step: Step, inside: Inside) -> Step:
        """View the object's box instead of the whole image."""
        config, traits = self, inside.traits
        if config.skip_clicks > 0 and isinstance(traits.size, tuple):
            # Networks of one fixed size see every view resized, and their published setting skips no click.
            config = replace(config, skip_clicks=-1)
        return zoom_in(inside.look, config, size=traits.size, zoom_size=traits.zoom_size)


def object_box(config: ZoomIn, state: State) -> Box | None:
    """Return the expanded box around the last mask and the positive clicks; None without a mask."""
    if state.mask_prob is None:
        return None
    above = state.mask_prob[0] > config.threshold
    if not above.any():
        return None
    rows, columns = (above.any(axis).nonzero()[:, 0] for axis in (1, 0))
    positive = state.clicks.yx[state.clicks.positive].astype(int)
    box = Box(
        min([int(rows[0]), *positive[:, 0].tolist()]),
        max([int(rows[-1]), *positive[:, 0].tolist()]),
        min([int(columns[0]), *positive[:, 1].tolist()]),
        max([int(columns[-1]), *positive[:, 1].tolist()]),
    )
    return expand(box, config.expansion, config.min_crop_size, state.hw)


def next_box(config: ZoomIn, state: State) -> tuple[Box | None, Box | None]:
    """Return (box to view now, box to remember); None for the first means the whole image."""
    if len(state.clicks) <= config.skip_clicks:
        return None, state.zoom_box
    candidate = object_box(config, state)
    if candidate is None:
        if config.skip_clicks >= 0:
            return None, state.zoom_box
        candidate = whole(state.hw)
    kept = state.zoom_box
    if (
        kept is None
        or not contains(kept, state.clicks.yx[state.clicks.positive])
        or box_iou(candidate, kept) < config.recompute_iou
    ):
        kept = candidate
    return kept, kept


def zoom_in(look: Look, config: ZoomIn, *, size: SizeRule, zoom_size: SizeRule) -> Step:
    """View the object's box and paste the probabilities into zeros, so that pixels outside the box are background."""
    crop_size = zoom_size if config.size is None else config.size

    def one_look(state: State, look_at: Box | None = None) -> Steps[State]:
        box, remembered = next_box(config, state) if look_at is None else (look_at, look_at)
        view_box = box or whole(state.hw)
        view_hw = apply_size_rule(size if box is None else crop_size, view_box.hw)
        seen = yield from look(state.view(view_box, view_hw))
        return replace(state.answered(seen, view_box, view_hw), zoom_box=remembered)

    def step(state: State) -> Steps[State]:
        answered = yield from one_look(state)
        if needs_second_look(config, answered):
            # View the object just found, with the previous mask from before this click.
            answered = yield from one_look(state, object_box(config, answered))
        return answered

    return step


def needs_second_look(config: ZoomIn, answered: State) -> bool:
    """Whether the first look was at the whole image but the new mask needs a smaller box (only if skip_clicks is 0)."""
    if config.skip_clicks > 0 or answered.zoom_box is not None:
        return False
    box = object_box(config, answered)
    return box is not None and box_iou(box, whole(answered.hw)) < config.recompute_iou
