"""Prompted look (SAM): encode a view once, before any click, and answer all clicks from the encoded view."""

import numpy as np
import torch
from torch import Tensor

from models.device import to_device
from models.interaction import Clicks
from models.refinement.state import Seen, View, start
from models.steps import Prompt, Start, Steps, ask


def prompted(view: View) -> Steps[Seen]:
    """Run a network whose heavy half sees no click; the memory holds the logits to feed back and a box, if any.

    A mask with which the session began is passed as logits and as its box, since logits alone do not preserve it. The
    box stays a prompt for all later clicks and grows with the positive ones (ours).
    """
    started = (yield from start(view)) or (yield from ask(Start(view.image)))
    low_logits, *boxes = view.memory or (None,)
    prev_mask = view.prev_mask if low_logits is None and view.masked else None
    box = boxes[0] if boxes else box_around(view.prev_mask) if prev_mask is not None and view.given else None
    box = None if box is None else grown(box, view.clicks)
    hw = (view.image.shape[1], view.image.shape[2])
    logits, low_logits = yield from ask(Prompt(started, hw, view.clicks, low_logits, prev_mask, box))
    return Seen(logits, (low_logits,) if box is None else (low_logits, box))


def grown(box: Tensor, clicks: Clicks) -> Tensor:
    """Return the corners of the smallest box that holds another box and the positive clicks."""
    xy = to_device(clicks.yx[clicks.positive][:, ::-1].astype(np.float32), box.device)
    ends = torch.cat([box.view(2, 2), xy])
    return torch.cat([ends.amin(0), ends.amax(0)])


def box_around(prob: Tensor) -> Tensor | None:
    """Return the corners (x0, y0, x1, y1) of the bounding box of a mask (1, h, w); None if it is empty."""
    inside = prob[0] > 0.5
    if not inside.any():
        return None
    rows, columns = (inside.any(axis).nonzero()[:, 0] for axis in (1, 0))
    return torch.stack([columns[0], rows[0], columns[-1], rows[-1]]).float()
