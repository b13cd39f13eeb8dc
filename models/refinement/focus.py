"""Focus: close-ups around clicks that correct details (Lin et al., FocusCut, CVPR 2022, Sec. 3).

See docs/PAPERS.md, FocusCut: inference.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch

from models.device import to_device, to_host
from models.geometry import Box
from models.networks.base import Traits
from models.parameters import Choice, Range
from models.records import Above, AtLeast, AtMost
from models.refinement.focus_range import focus_range
from models.refinement.part import ENCODED, Inside, Part, Slot
from models.refinement.patches import Masking, Patch, paste_back, view_of
from models.refinement.progressive_focus import REFERENCE_SIDE, next_ratio
from models.refinement.state import FocusClick, Look, Seen, State, Step, View
from models.steps import Steps, together

FAST_RATIO = 3.8 % 1
"""The fast mode's 0.8 as the public code computes it, 0.7999999999999998, which makes some radii a pixel shorter."""
MIN_RADIUS = 5
"""Close-ups with this radius in pixels, or a smaller one, are skipped."""
Factor = Annotated[float, Above(0)]
Side = Annotated[int, AtLeast(8)]


@dataclass(frozen=True, kw_only=True)
class Focus(Part):
    """Settings of close-ups: which clicks get them, and how they progress."""

    name = "focus"
    slot = Slot.DETAILS
    source = "FocusCut, Alg. 2 and 3"
    sweep: ClassVar = {
        "clicks": Choice(("all", "newest")),
        "min_area_ratio": Range(0.05, 0.5, grid=(0.2,)),
        "margin": Range(1.25, 2.5, grid=(1.75,)),
        "turns": Range(1, 4, grid=(1, 3)),
        "growth": Range(1.0, 1.5, grid=(1.1,)),
        "erosion": Range(0.0, 4.0, grid=(2.0,)),
        "fixed_ratio": Choice((None, 0.6, 0.8), grid=(None, 0.8)),
        "smallest": Range(0.1, 0.5, grid=(0.2,)),
        "iterative": Choice((True, False), grid=(True,)),
    }
    last_pass = "close-ups"
    cuts = True

    clicks: Literal["all", "newest"] = "all"
    """Clicks that get close-ups at every click: all that correct details, as published, or the newest only."""
    from_click: Annotated[int, AtLeast(1)] = 2
    """First click that may get close-ups; if a session begins with a mask, its first click may."""
    min_area_ratio: Annotated[float, AtLeast(0), AtMost(1)] = 0.2
    """A click corrects a detail if its change is smaller than this fraction of the mask (lambda)."""
    margin: Factor = 1.75
    """Radius of the first close-up, as a multiple of the detail's reach (omega)."""
    turns: Annotated[int, AtLeast(1)] = 3
    """Number of successive close-ups around a click, each with a new radius (T)."""
    growth: Factor = 1.1
    """Radius of the next close-up, as a multiple of the reach of the last one's change (omega hat)."""
    erosion: Annotated[float, AtLeast(0)] = 2.0
    """Ignore changes thinner than about twice this, in pixels of a close-up of side 384 (epsilon)."""
    smallest: Factor = 0.2
    """Smallest radius, as a multiple of the detail's reach."""
    fixed_ratio: Factor | None = None
    """Radius of the next close-up as a fraction of the last one's; None: derived from the last one's change."""
    iterative: bool = True
    """Show each close-up the mask after the previous ones; False: the mask of the whole view."""
    size: Side | tuple[Side, Side] | None = None
    """Side, or height and width, of close-ups for the network in pixels; None: its fixed size, else 384."""

    @classmethod
    def names(cls) -> Mapping[str, Self]:
        """Named settings."""
        return {"focus": cls(), "focus_fast": cls(fixed_ratio=FAST_RATIO, iterative=False)}

    def why_not(self, traits: Traits, parts: Sequence[Part]) -> Iterator[str]:
        """Yield the reasons why a network does not support this part."""
        hw = view_hw(self, traits)
        if traits.exemplar:
            yield "focus: a close-up does not show the exemplar that this network takes; leave it out"
        if isinstance(traits.size, tuple) and hw != traits.size:
            yield f"focus.size {hw}: this network takes only views of size {traits.size}"
        if any(side % traits.multiple for side in hw):
            yield f"focus.size {hw}: this network takes only sides that are multiples of {traits.multiple}"

    def cost(self, traits: Traits) -> str:
        """Describe the cost for a network with these traits."""
        if traits.prompted:
            return ENCODED
        return (
            "each close-up runs both halves, so a click costs as much as several first clicks" if traits.split else ""
        )

    def simplest(self) -> "Focus":
        """Return it with settings that have no effect at their defaults."""
        if self.turns > 1:
            return self
        plain = Focus()
        return replace(self, growth=plain.growth, smallest=plain.smallest, fixed_ratio=plain.fixed_ratio)

    def click(self, step: Step, inside: Inside) -> Step:
        """Add close-ups after the step."""
        return focus(step, inside.close_look, self, inside.masking, hw=view_hw(self, inside.traits))


def view_hw(config: Focus, traits: Traits) -> tuple[int, int]:
    """Return the height and width of close-ups for a network with these traits."""
    if config.size is not None:
        return config.size if isinstance(config.size, tuple) else (config.size, config.size)
    if isinstance(traits.size, tuple):
        return traits.size
    side = max(1, REFERENCE_SIDE // traits.multiple) * traits.multiple
    return side, side


class Refined(NamedTuple):
    """Probabilities float32 (h, w) after all close-ups, and the number of close-ups."""

    prob: np.ndarray
    num_views: int


def focus(step: Step, look: Look, config: Focus, masking: Masking, *, hw: tuple[int, int]) -> Step:
    """Answer a click with `step`, then with close-ups of size `hw` around the clicks that correct details.

    Alg. 2 judges the newest click by the change that `step` makes to the last final mask. The close-ups of Alg. 3
    follow, and their answers are averaged where they overlap. The final mask is the next click's previous mask.
    """

    def focused(state: State) -> Steps[State]:
        answered = yield from step(state)
        assert answered.mask_prob is not None
        if len(state.clicks) < config.from_click and not state.mask_given:
            return answered
        before, prob = (to_host(one.prev_mask()[0]) for one in (state, answered))
        masks = (before > masking.threshold, prob > masking.threshold)
        distance, corrects = focus_range(*masks, state.newest_pixel(), config.min_area_ratio)
        number = len(state.clicks) - 1
        accepted = state.focus_clicks + ((FocusClick(number, distance),) if corrects else ())
        chosen = [click for click in accepted if config.clicks == "all" or click.number == number]
        prob, num_views = yield from close_ups(answered, chosen, prob)
        counts = answered.counts
        return replace(
            answered,
            mask_prob=to_device(prob, answered.mask_prob.device)[None] if num_views else answered.mask_prob,
            focus_clicks=accepted,
            counts=replace(
                counts,
                focus_clicks=len(accepted),
                focus_views=counts.focus_views + num_views,
                focus_distance=distance,
            ),
        )

    def close_ups(state: State, chosen: Sequence[FocusClick], prob: np.ndarray) -> Steps[Refined]:
        scales: list[float | None] = [config.margin] * len(chosen)
        newest: dict[int, Patch] = {}
        unrefined, num_views = prob, 0
        ahead: list[Turn] = []
        if config.fixed_ratio is not None and not config.iterative:
            # No turn depends on an answer, so all turns may share a forward.
            plan = [_scaled(scales, config.fixed_ratio, turn, config.smallest) for turn in range(config.turns)]
            ahead = yield from look_all([boxes(state, chosen, part) for part in plan], state, unrefined)
        for turn in range(config.turns):
            if ahead:
                seen = ahead[turn]
            else:
                shown = prob if config.iterative else unrefined
                (seen,) = yield from look_all([boxes(state, chosen, scales)], state, shown)
            for number, (box, view, after) in seen.items():
                newest[number] = Patch(after, box)
                scales[number] = next_scale(scales[number], view, after)
            num_views += len(seen)
            prob, _ = paste_back(prob, newest.values())
            if all(scale is None for scale in scales):
                break
        return Refined(prob, num_views)

    def boxes(state: State, chosen: Sequence[FocusClick], scales: Sequence[float | None]) -> dict[int, Box]:
        found: dict[int, Box] = {}
        for number, (click, scale) in enumerate(zip(chosen, scales, strict=True)):
            # Wide enough to hold the whole image from anywhere, and no wider, to limit memory (ours).
            radius = 0 if scale is None else min(int(click.distance * scale), max(state.hw))
            if radius > MIN_RADIUS:
                y, x = state.clicks.yx[click.number].astype(int).tolist()
                found[number] = Box(y - radius, y + radius, x - radius, x + radius)
        return found

    def look_all(turns: list[dict[int, Box]], state: State, prob: np.ndarray) -> Steps[list[Turn]]:
        views = [
            {
                number: view_of(state.image, prob, state.clicks, box, hw, masking, focus=True, masked=True)
                for number, box in turn.items()
            }
            for turn in turns
        ]
        seen: list[Seen] = yield from together(*(look(view) for turn in views for view in turn.values()))
        answers = iter(to_host(torch.sigmoid(one.logits)[0]) for one in seen)
        return [
            {number: (box, views[i][number], next(answers)) for number, box in turn.items()}
            for i, turn in enumerate(turns)
        ]

    def next_scale(scale: float | None, view: View, after: np.ndarray) -> float | None:
        assert scale is not None
        ratio = config.fixed_ratio
        if ratio is None:
            shown = to_host(view.prev_mask[0] > masking.threshold)
            ratio = next_ratio(shown, after > masking.threshold, growth=config.growth, erosion=config.erosion)
        return None if ratio is None else max(scale * ratio, config.smallest)

    return focused


Turn = dict[int, tuple[Box, View, np.ndarray]]
"""Close-ups of one turn by the index of the chosen click: (box, view, probabilities)."""


def _scaled(scales: Sequence[float | None], ratio: float, turn: int, smallest: float) -> list[float | None]:
    """Return the scales after `turn` steps of a fixed ratio."""
    result = list(scales)
    for _ in range(turn):
        result = [None if scale is None else max(scale * ratio, smallest) for scale in result]
    return result
