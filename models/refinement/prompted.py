"""Prompted: encode a view once, before any click; answer all clicks on what that left (SAM)."""

import torch
from torch import Tensor

from models.refinement.state import Seen, View, start
from models.steps import Prompt, Start, Steps, ask


def prompted(view: View) -> Steps[Seen]:
    """Look with a network whose heavy half sees no click; what is fed back is its memory.

    A mask that the session began with goes in as logits and as its box, for logits alone do not hold it (ours).
    """
    started = (yield from start(view)) or (yield from ask(Start(view.image)))
    low_logits = view.memory
    prev_mask = view.prev_mask if low_logits is None and view.masked else None
    box = box_around(view.prev_mask) if prev_mask is not None and view.given else None
    hw = (view.image.shape[1], view.image.shape[2])
    logits, low_logits = yield from ask(Prompt(started, hw, view.clicks, low_logits, prev_mask, box))
    return Seen(logits, low_logits)


def box_around(prob: Tensor) -> Tensor | None:
    """Corners (x0, y0, x1, y1) of the pixels of a mask (1, h, w); None if it is empty."""
    inside = prob[0] > 0.5
    if not inside.any():
        return None
    rows, columns = (inside.any(axis).nonzero()[:, 0] for axis in (1, 0))
    return torch.stack([columns[0], rows[0], columns[-1], rows[-1]]).float()
