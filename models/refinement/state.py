"""What a session knows (State) and what one look at the image sees (View): values, made anew by every click."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from models.geometry import Box
from models.interaction import Click, Clicks
from models.steps import Segment, Steps, ask


@dataclass(frozen=True, eq=False, kw_only=True)
class State:
    """A session after its clicks: `image` (3, h, w) RGB in 0..1, `mask_prob` (1, h, w) or None before any mask."""

    image: Tensor
    clicks: Clicks = field(default_factory=Clicks.none)
    mask_prob: Tensor | None = None
    zoom_box: Box | None = None

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.image.shape[1], self.image.shape[2]

    def prev_mask(self) -> Tensor:
        """Previous mask (1, h, w): zeros at the start."""
        if self.mask_prob is not None:
            return self.mask_prob
        return torch.zeros(1, *self.hw, device=self.image.device)

    def with_click(self, click: Click) -> "State":
        """Return this state with one more click, not yet answered."""
        return replace(self, clicks=self.clicks.add(click))


@dataclass(frozen=True, eq=False, kw_only=True)
class View:
    """A crop or the whole image at the network's size, with the previous mask and the clicks in its frame."""

    image: Tensor
    prev_mask: Tensor
    clicks: Clicks


Look = Callable[[View], Steps[Tensor]]
"""One look: a view in, logits (1, h, w) out."""
Step = Callable[[State], Steps[State]]
"""One click: a state whose newest click is unanswered in, the answered state out."""


def resize(x: Tensor, hw: tuple[int, int]) -> Tensor:
    """Resize (c, h, w) bilinearly, align_corners True: the public pipelines' resize everywhere."""
    if tuple(x.shape[1:]) == tuple(hw):
        return x
    return F.interpolate(x[None], size=tuple(hw), mode="bilinear", align_corners=True)[0]


def segment(view: View) -> Steps[Tensor]:
    """Look once with the whole network."""
    return (yield from ask(Segment(view.image, view.prev_mask, view.clicks)))
