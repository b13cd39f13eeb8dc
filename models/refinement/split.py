"""Split: encode a view once and correct at every click (Du et al. 2023; docs/PAPERS.md, EMC-Click: inference)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

import torch
from torch import Tensor

from models.networks.base import Traits
from models.parameters import Choice, Range
from models.records import AtLeast
from models.refinement.part import Inside, Part, Slot
from models.refinement.state import Look, Seen, View, start
from models.resampling import resize
from models.steps import Correct, Encode, Steps, ask

CERTAIN = 0.99
"""Probability assigned to the pixels of a given mask; its background gets 1 - this (ours)."""


@dataclass(frozen=True, kw_only=True)
class Split(Part):
    """When the heavy half of a split network runs; without this part, once and again when a zoom changes the view."""

    name = "split"
    slot = Slot.HALVES
    source = "ours"
    sweep: ClassVar = {
        "encode": Choice(("on_zoom", "every_click"), grid=("on_zoom",)),
        "base_steps": Range(0, 3, grid=(0,)),
    }

    encode: Literal["once", "on_zoom", "every_click"] = "on_zoom"
    """When the heavy half runs: once per session (published), on_zoom (again when a zoom changes the view; ours) or
    every_click."""
    base_steps: Annotated[int, AtLeast(0)] = 0
    """Additional passes of the heavy half over its mask before its features are kept (CFR-n on the base alone)."""

    @classmethod
    def names(cls) -> Mapping[str, Self]:
        """Named settings."""
        return {"every_click_encoded": cls(encode="every_click"), "base_cfr_2": cls(base_steps=2)}

    @classmethod
    def rows(cls) -> Mapping[str, Self]:
        """Rows of the table in docs/REFINEMENTS.md."""
        return {"base_cascade": cls(base_steps=1), "split": cls()}

    def why_not(self, traits: Traits, parts: Sequence[Part]) -> Iterator[str]:
        """Yield the reasons why a network does not support this part."""
        if traits.prompted:
            yield "split: the heavy half of this network sees no click and never has to run again; leave it out"
        elif not traits.split:
            yield "split: this network has no heavy and light half; leave it out"
        elif self.base_steps > 0 and traits.prev_mask == "unused":
            yield (
                "split.base_steps: the heavy half of this network takes no previous mask, so its cascade would change "
                "nothing; cascade the correction instead"
            )
        elif self.encode == "once" and any(part.slot is Slot.PLACE for part in parts):
            yield "split.encode 'once': a zoom changes the view, which must then be encoded again; use on_zoom"

    def looks(self, inside: Inside) -> Inside:
        """Run the two halves separately, with these settings."""
        return inside._replace(look=split(self, inside.traits.starts))


def split(config: Split, starts: bool = False) -> Look:
    """Return the look of a split network: the heavy half runs at the first look at a view, the light half at each.

    `starts`: a part of the heavy half needs no click and runs before it.
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
        return Seen(logits, None if config.encode == "every_click" else (features, low_logits))

    return look


def certain(prob: Tensor) -> Tensor:
    """Return the logits of a mask, with its probabilities clamped away from 0 and 1."""
    return torch.logit(prob.clamp(1 - CERTAIN, CERTAIN))
