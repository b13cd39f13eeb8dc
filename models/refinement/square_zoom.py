"""Square zoom: the view of the whole object in FocusCut's public code (docs/PAPERS.md, FocusCut: inference)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

import numpy as np
import torch

from models.device import to_device, to_host
from models.geometry import Box, SizeRule, apply_size_rule, box_iou, contains, whole
from models.networks.base import Traits
from models.parameters import Range
from models.records import AtLeast, AtMost
from models.refinement.part import ENCODED, EXEMPLAR, MOVED, Inside, Part, Slot
from models.refinement.patches import Masking, Patch, paste_back, view_of
from models.refinement.state import Look, Memory, State, Step
from models.steps import Steps


@dataclass(frozen=True, kw_only=True)
class SquareZoom(Part):
    """Settings of the square zoom; the box's side is at least half the image's shorter side."""

    name = "square_zoom"
    slot = Slot.PLACE
    source = "FocusCut"
    sweep: ClassVar = {"expansion": Range(0.2, 0.8, grid=(0.4,)), "keep_iou": Range(0.1, 0.9, grid=(0.5,))}
    cuts = True

    expansion: Annotated[float, AtLeast(0)] = 0.4
    """The box's side is the object's longer side plus this multiple of its shorter side."""
    keep_iou: Annotated[float, AtLeast(0), AtMost(1)] = 0.5
    """Keep the box while its overlap with a newly computed one (product of the 1-D IoUs) is at least this."""

    @classmethod
    def names(cls) -> Mapping[str, Self]:
        """Empty: no settings are named, and `focuscut` includes this part."""
        return {}

    def why_not(self, traits: Traits, parts: Sequence[Part]) -> Iterator[str]:
        """Yield the reasons why a network does not support this part."""
        if traits.exemplar:
            yield f"square_zoom: {EXEMPLAR}"

    def cost(self, traits: Traits) -> str:
        """Describe the cost for a network with these traits."""
        return ENCODED if traits.prompted else MOVED if traits.split else ""

    def click(self, step: Step, inside: Inside) -> Step:
        """View the object's square instead of the whole image."""
        traits = inside.traits
        return square_zoom(inside.look, self, inside.masking, size=traits.size, zoom_size=traits.zoom_size)


def square_box(mask: np.ndarray, positive_yx: np.ndarray, expansion: float) -> Box | None:
    """Return a square inside the image that holds a mask (bool, h, w) and the positive clicks (n, 2).

    None for an empty mask.
    """
    if not mask.any():
        return None
    ranges: list[tuple[int, int]] = []
    for axis in (1, 0):
        filled, clicked = np.flatnonzero(mask.any(axis)), positive_yx[:, 1 - axis].astype(int)
        ranges.append((min([int(filled[0]), *clicked.tolist()]), max([int(filled[-1]), *clicked.tolist()])))
    short, long = sorted(last - first + 1 for first, last in ranges)
    side = min(max(long + int(expansion * short), min(mask.shape) // 2), max(mask.shape))
    ends: list[int] = []
    for (first, last), limit in zip(ranges, mask.shape, strict=True):
        length = min(side, limit)
        start = first + (last - first + 1) // 2 - side // 2 + 1
        start = min(max(start, last + 1 - length), first)
        start = min(max(start, 0), limit - length)
        ends += [start, start + length - 1]
    return Box(*ends)


def next_box(config: SquareZoom, state: State, threshold: float) -> Box:
    """Return the box to view: the last one (at first the whole image) as long as it still fits the object."""
    assert state.mask_prob is not None
    positive = state.clicks.yx[state.clicks.positive]
    box = square_box(to_host(state.mask_prob[0] > threshold), positive, config.expansion)
    if box is None:
        return whole(state.hw)
    kept = state.zoom_box or whole(state.hw)
    keep = contains(Box(kept.top, kept.bottom + 1, kept.left, kept.right + 1), positive)
    return kept if keep and box_iou(box, kept) >= config.keep_iou else box


def square_zoom(look: Look, config: SquareZoom, masking: Masking, *, size: SizeRule, zoom_size: SizeRule) -> Step:
    """View the object's square; without a mask, view the whole image first and then the square.

    The probabilities are pasted into zeros. The previous mask is the state's; with `focus` outside, it is the refined
    mask of the last click.
    """

    def one_look(state: State, box: Box) -> Steps[State]:
        hw = apply_size_rule(size if box == whole(state.hw) else zoom_size, box.hw)
        view = view_of(state.image, to_host(state.prev_mask()[0]), state.clicks, box, hw, masking)
        memory = state.memory.content if state.memory is not None and state.memory[:2] == (box, hw) else None
        frame = state.frames.at(box, hw, "square")
        seen = yield from look(replace(view, memory=memory, masked=state.mask_prob is not None, frame=frame))
        prob = to_host(torch.sigmoid(seen.logits)[0])
        pasted, _ = paste_back(np.zeros(state.hw, np.float32), [Patch(prob, box)])
        return replace(
            state,
            mask_prob=to_device(pasted, state.image.device)[None],
            zoom_box=box,
            memory=None if seen.memory is None else Memory(box, hw, seen.memory),
        )

    def step(state: State) -> Steps[State]:
        if state.mask_prob is None:
            state = yield from one_look(state, whole(state.hw))
        return (yield from one_look(state, next_box(config, state, masking.threshold)))

    return step
