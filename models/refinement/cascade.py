"""CFR and A-CFR: feed the mask back without a new click (Sun et al., CFR-ICL, Eq. 4-5; spec 5.3)."""

from dataclasses import dataclass, replace

from models.errors import InputError
from models.refinement.state import State, Step
from models.steps import Steps


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """How often to refine, and after which clicks."""

    steps: int = 4
    """Passes after the first (the n of CFR-n); 0 is no refinement."""
    adaptive: bool = False
    """Stop when a pass changes at most `pixels` pixels of the mask (A-CFR)."""
    on_first_clicks: int | None = 1
    """Refine the first k clicks only: 1 is what the public code does; None, every click, is the paper."""
    pixels: int = 20
    threshold: float = 0.49

    def __post_init__(self) -> None:
        if self.steps < 0 or self.pixels < 0 or (self.on_first_clicks is not None and self.on_first_clicks < 0):
            raise InputError(
                f"cascade: steps {self.steps}, pixels {self.pixels}, on_first_clicks {self.on_first_clicks}: "
                "expected numbers >= 0"
            )


def cascade(step: Step, config: Cascade) -> Step:
    """Repeat the whole step with the same clicks; every pass takes the mask and the zoom of the one before."""

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
    """Pixels in which two masks differ, at full resolution."""
    assert before.mask_prob is not None
    assert after.mask_prob is not None
    return int(((before.mask_prob > threshold) ^ (after.mask_prob > threshold)).sum())
