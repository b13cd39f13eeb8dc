"""State (a session after its clicks) and View (the input of one look): values, which every click creates again."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from models.exemplar import Exemplar
from models.geometry import Box, to_view
from models.interaction import Click, Clicks
from models.refinement.frames import Frame, Frames
from models.resampling import Resampling, resize, resize_pixels, to_image
from models.steps import Segment, Start, Steps, ask


class Memory(NamedTuple):
    """Result of a look that the next look at the same view reuses (a split network's features); it may vanish."""

    box: Box
    hw: tuple[int, int]
    content: Any


class FocusClick(NamedTuple):
    """A click that corrects a detail: its index in the session, and the reach of the detail in pixels."""

    number: int
    distance: int


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Counts of a session's refinement so far, for reports."""

    cascade_passes: int = 0
    """Number of passes after the first, over all clicks."""
    focus_clicks: int = 0
    """Number of clicks that were judged to correct a detail."""
    focus_views: int = 0
    """Number of close-ups."""
    focus_distance: int = 0
    """Reach of the last judged click, in pixels; 0: no click was judged."""


@dataclass(frozen=True, eq=False, kw_only=True)
class State:
    """A session after its clicks: `image` (3, h, w) RGB in 0..1, `mask_prob` (1, h, w) or None before any mask."""

    image: Tensor
    clicks: Clicks = field(default_factory=Clicks.none)
    mask_prob: Tensor | None = None
    mask_given: bool = False
    """Whether the session began with a mask to correct."""
    zoom_box: Box | None = None
    memory: Memory | None = None
    example: Exemplar | None = None
    """Exemplar in the frame of the image; it does not change during a session."""
    focus_clicks: tuple[FocusClick, ...] = ()
    """Clicks that get close-ups for the rest of the session."""
    counts: Counts = Counts()
    frames: Frames = field(default_factory=Frames)
    """Cache of click-independent data, shared by all states of the image."""
    resampling: Resampling = "corners"
    """How views are resized and logits resized back; set by `build`."""

    @property
    def hw(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.image.shape[1], self.image.shape[2]

    def prev_mask(self) -> Tensor:
        """Return the previous mask (1, h, w), which is zeros at the start."""
        if self.mask_prob is not None:
            return self.mask_prob
        return torch.zeros(1, *self.hw, device=self.image.device)

    def with_click(self, click: Click) -> "State":
        """Return this state with one more click, not yet answered."""
        return replace(self, clicks=self.clicks.add(click))

    def view(self, box: Box, hw: tuple[int, int]) -> "View":
        """Return the network's input for a box at size `hw`."""
        rows, columns = box.slices()
        frame = self.frames.at(box, hw)
        image = frame.pixels(lambda: resize_pixels(self.image[:, rows, columns], hw, self.resampling), hw != box.hw)
        prev_mask = resize(self.prev_mask()[:, rows, columns], hw, self.resampling)
        return View(
            image=image,
            prev_mask=prev_mask,
            clicks=moved(self.clicks, box, hw),
            masked=self.mask_prob is not None,
            given=self.mask_given and self.memory is None,
            memory=self.memory.content if self.memory is not None and self.memory[:2] == (box, hw) else None,
            example=self._exemplar(box, hw),
            frame=frame,
        )

    def _exemplar(self, box: Box, hw: tuple[int, int]) -> Exemplar | None:
        if self.example is None:
            return None
        exemplar = self.example.sorted_by(self.prev_mask()) if self.example.sorted_by_mask else self.example
        rows, columns = box.slices()
        return exemplar.moved(lambda mask: resize(mask[:, rows, columns], hw), lambda clicks: moved(clicks, box, hw))

    def answered(self, seen: "Seen", box: Box, hw: tuple[int, int]) -> "State":
        """Return this state with the answer of a look at `box`; pixels outside the box are background."""
        prob = to_image(seen.logits, box.hw, self.resampling)
        if box.hw != self.hw:
            rows, columns = box.slices()
            pasted = torch.zeros(1, *self.hw, device=prob.device)
            pasted[:, rows, columns] = prob
            prob = pasted
        memory = None if seen.memory is None else Memory(box, hw, seen.memory)
        return replace(self, mask_prob=prob, memory=memory)

    def newest_pixel(self) -> tuple[int, int]:
        """Return the pixel (y, x) of the newest click."""
        y, x = (min(int(place), side - 1) for place, side in zip(self.clicks.yx[-1], self.hw, strict=True))
        return y, x

    def honoured(self, threshold: float) -> bool:
        """Whether the mask has the newest click's sign at its pixel (True without clicks or mask)."""
        if self.mask_prob is None or not len(self.clicks):
            return True
        y, x = self.newest_pixel()
        return bool(self.mask_prob[0, y, x] > threshold) == bool(self.clicks.positive[-1])


@dataclass(frozen=True, eq=False, kw_only=True)
class View:
    """A crop, or the whole image, at the network's size, with the previous mask and the clicks in its frame."""

    image: Tensor
    prev_mask: Tensor
    clicks: Clicks
    masked: bool = False
    """Whether there is a previous mask; without one, `prev_mask` is zeros."""
    given: bool = False
    """Whether that mask is the one with which the session began."""
    focus: bool = False
    """Whether this is a close-up around a click."""
    memory: Any = None
    """Memory of the last look at the same view."""
    example: Exemplar | None = None
    frame: Frame | None = None
    """Cache for click-independent data; None: this view will not be seen again."""


class Seen(NamedTuple):
    """Logits (1, h, w) of a look, and its memory for the next look at the same view."""

    logits: Tensor
    memory: Any = None


Look = Callable[[View], Steps[Seen]]
"""One look: runs the network on a view and returns logits."""
Step = Callable[[State], Steps[State]]
"""One click: takes a state whose newest click is unanswered and returns the answered state."""


def moved(clicks: Clicks, box: Box, hw: tuple[int, int]) -> Clicks:
    """Map clicks from the image to the frame of a box at size `hw`."""
    return Clicks(to_view(clicks.yx, box, hw), clicks.positive)


def segment(view: View) -> Steps[Seen]:
    """Run the whole network on a view."""
    logits = yield from ask(Segment(view.image, view.prev_mask, view.clicks, view.focus, view.example))
    return Seen(logits)


def segment_started(view: View) -> Steps[Seen]:
    """Run a network that can start without clicks; its first part is reused if it has run on this view already."""
    started = yield from start(view)
    logits = yield from ask(Segment(view.image, view.prev_mask, view.clicks, view.focus, view.example, started))
    return Seen(logits)


def start(view: View) -> Steps[Any]:
    """Return the click-independent features, from the view's cache or computed now; None if the view has no cache."""
    frame = view.frame
    if frame is None:
        return None
    if frame.started is None or not frame.shows(view.example):
        frame.keep((yield from ask(Start(view.image, view.example))), view.example)
    return frame.started
