"""One look at the whole image per click."""

from dataclasses import replace

import torch

from models.geometry import SizeRule, apply_size_rule, to_view, whole
from models.interaction import Clicks
from models.refinement.state import Look, State, Step, View, resize
from models.steps import Steps


def standard(look: Look, size: SizeRule) -> Step:
    """Resize the whole image to `size`, look, resize the probabilities back (spec 5.1)."""

    def step(state: State) -> Steps[State]:
        hw = apply_size_rule(size, state.hw)
        view = resize(torch.cat([state.image, state.prev_mask()]), hw)
        clicks = Clicks(to_view(state.clicks.yx, whole(state.hw), hw), state.clicks.positive)
        logits = yield from look(View(image=view[:3], prev_mask=view[3:], clicks=clicks))
        return replace(state, mask_prob=resize(torch.sigmoid(logits), state.hw))

    return step


def limit_longest_side(longest: int, hw: tuple[int, int]) -> SizeRule:
    """Size rule that shrinks an image whose longest side exceeds `longest` and leaves others alone (spec 5.2)."""
    return longest if max(hw) > longest else None
