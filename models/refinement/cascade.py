"""Cascade-forward refinement (CFR, A-CFR): feed the mask back without a new click (Sun et al., CFR-ICL, Eq. 4-5).

See docs/PAPERS.md, CFR-ICL: cascade-forward refinement (CFR).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

from models.networks.base import Traits
from models.parameters import Choice, Range
from models.records import AtLeast, Fraction
from models.refinement.part import Inside, Part, Slot
from models.refinement.state import State, Step
from models.steps import Steps


@dataclass(frozen=True, kw_only=True)
class Cascade(Part):
    """Settings of the cascade: how often to refine, and after which clicks."""

    name = "cascade"
    slot = Slot.REPEAT
    source = "CFR-ICL, Eq. 4-5; public code"
    sweep: ClassVar = {
        "steps": Range(0, 8, grid=(0, 1, 2, 4)),
        "adaptive": Choice((False, True)),
        "pixels": Range(0, 500, grid=(20,)),
        "on_first_clicks": Choice((1, 3, None), grid=(1, None)),
    }

    steps: Annotated[int, AtLeast(0)] = 4
    """Number of passes after the first (the n of CFR-n); 0 disables the cascade."""
    adaptive: bool = False
    """Stop when a pass changes at most `pixels` pixels of the mask (A-CFR)."""
    on_first_clicks: Annotated[int, AtLeast(0)] | None = 1
    """Refine the first k clicks only: 1 as in the public code; None refines every click, as in the paper."""
    pixels: Annotated[int, AtLeast(0)] = 20
    threshold: Fraction = 0.49

    @classmethod
    def names(cls) -> Mapping[str, Self]:
        """Named settings; `names.named` parses every (a_)cfr_N(_all_clicks)."""
        return {
            "cfr_1": cls(steps=1),
            "cfr_4": cls(steps=4),
            "a_cfr_4": cls(steps=4, adaptive=True),
            "cfr_1_all_clicks": cls(steps=1, on_first_clicks=None),
            "a_cfr_4_all_clicks": cls(steps=4, adaptive=True, on_first_clicks=None),
        }

    def cost(self, traits: Traits) -> str:
        """Describe the cost for a network with these traits."""
        corrects = traits.split and not traits.prompted
        return "each pass corrects the last mask; the heavy half does not run again" if corrects else ""

    def simplest(self) -> "Cascade | None":
        """Return it with settings that have no effect at their defaults; None if it changes nothing."""
        plain = Cascade()
        if self.steps == 0 or self.on_first_clicks == 0:
            return None
        if not self.adaptive:
            return replace(self, pixels=plain.pixels, threshold=plain.threshold)
        if self.steps == 1:  # always exactly one pass
            return replace(self, adaptive=False, pixels=plain.pixels)
        return self

    def click(self, step: Step, inside: Inside) -> Step:
        """Repeat the step."""
        return cascade(step, self)


def cascade(step: Step, config: Cascade) -> Step:
    """Repeat the whole step with the same clicks; each pass starts from the mask and zoom of the last one."""

    def refined(state: State) -> Steps[State]:
        limit = config.on_first_clicks
        refine = limit is None or len(state.clicks) <= limit
        answered, passes = (yield from step(state)), 0
        while refine and passes < config.steps:
            passes += 1
            before, answered = answered, (yield from step(answered))
            if config.adaptive and num_changed(before, answered, config.threshold) <= config.pixels:
                break
        counts = replace(answered.counts, cascade_passes=answered.counts.cascade_passes + passes)
        return replace(answered, counts=counts)

    return refined


def num_changed(before: State, after: State, threshold: float) -> int:
    """Count the pixels in which two masks differ, at full resolution."""
    assert before.mask_prob is not None
    assert after.mask_prob is not None
    return int(((before.mask_prob > threshold) ^ (after.mask_prob > threshold)).sum())
