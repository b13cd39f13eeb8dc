"""Split: encode a view once, correct it at every click (EMC-Click, Du et al. 2023; spec 1.4, 1.5, 1.8b)."""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from models.errors import InputError
from models.refinement.state import Look, Seen, State, Step, View, start
from models.resampling import resize
from models.steps import Correct, Encode, Steps, ask

CERTAIN = 0.99
"""A given mask counts as so certain, and its background as 1 - this (spec 1.8b, ours)."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """When the heavy half of a split network runs."""

    encode: Literal["once", "on_zoom", "every_click"] = "on_zoom"
    """`once` a session, as published; `on_zoom`: again when zoom_in changes the view (ours); `every_click`: always."""
    base_steps: int = 0
    """Passes of the heavy half over its own mask before anything is kept (CFR-n on the base alone)."""

    def __post_init__(self) -> None:
        if self.base_steps < 0 or self.encode not in ("once", "on_zoom", "every_click"):
            raise InputError(
                f"split: encode {self.encode!r}, base_steps {self.base_steps}: expected once, on_zoom or every_click, "
                "and a number >= 0"
            )


def split(config: Split, starts: bool = False) -> Look:
    """Look with a split network: its heavy half at the first look at a frame, its light half at each.

    `starts`: a part of the heavy half needs no click.
    """

    def encode(view: View) -> Steps[tuple[Tensor, Tensor]]:
        started = (yield from start(view)) if starts else None
        features, low_logits = yield from ask(Encode(view.image, view.prev_mask, view.clicks, started))
        for _ in range(config.base_steps):
            prev_mask = torch.sigmoid(resize(low_logits, (view.image.shape[1], view.image.shape[2])))
            features, low_logits = yield from ask(Encode(view.image, prev_mask, view.clicks, started))
        if view.masked:
            low_logits = certain(resize(view.prev_mask, (low_logits.shape[1], low_logits.shape[2])))
        return features, low_logits

    def look(view: View) -> Steps[Seen]:
        features, low_logits = view.memory or (yield from encode(view))
        logits, low_logits = yield from ask(Correct(view.image, features, low_logits, view.clicks))
        return Seen(logits, (features, low_logits))

    return look


def forgetful(step: Step) -> Step:
    """Run the heavy half at every click."""

    def every_time(state: State) -> Steps[State]:
        return (yield from step(replace(state, memory=None)))

    return every_time


def certain(prob: Tensor) -> Tensor:
    """Logits of a mask, its probabilities held away from 0 and 1."""
    return torch.logit(prob.clamp(1 - CERTAIN, CERTAIN))
