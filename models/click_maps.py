"""Clicks as tensors: padded batches of click lists, and the click maps that networks take as input."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.device import to_device
from models.interaction import Clicks

FARTHEST = 255.0
"""Largest distance in Gaussian maps, in pixels; pixels that are farther from a click count as this far."""


@dataclass(frozen=True, eq=False)
class ClickBatch:
    """Click lists of a batch, padded to one length n.

    `yx` float32 (b, n, 2) in the frame of the image; `positive` bool (b, n); `valid` bool (b, n), False = padding.
    `first` bool (b, n) marks first clicks: one per sample, or one per object where several objects form one target.
    Networks ignore the position of padding within a list.
    """

    yx: Tensor
    positive: Tensor
    valid: Tensor
    first: Tensor

    def to(self, device: torch.device | str) -> "ClickBatch":
        """Copy to a device."""
        return ClickBatch(*(part.to(device) for part in (self.yx, self.positive, self.valid, self.first)))


def collate_clicks(batch: Sequence[Clicks], device: torch.device | str = "cpu") -> ClickBatch:
    """Pad click lists to the longest list of the batch."""
    num = max([1, *(len(clicks) for clicks in batch)])
    yx = np.full((len(batch), num, 2), -1.0, np.float32)
    positive, valid, first = (np.zeros((len(batch), num), bool) for _ in range(3))
    for row, clicks in enumerate(batch):
        yx[row, : len(clicks)] = clicks.yx
        positive[row, : len(clicks)] = clicks.positive
        valid[row, : len(clicks)] = True
    first[:, 0] = valid[:, 0]
    return ClickBatch(*(to_device(part, device) for part in (yx, positive, valid, first)))


def disk_maps(clicks: ClickBatch, hw: tuple[int, int], radius: float = 5.0) -> Tensor:
    """Draw clicks as filled disks: float32 (b, 2, h, w), channel 0 positive, 1 negative.

    A pixel is 1 when its squared distance to a click is <= radius^2; fractional clicks are not rounded. A click above
    *and* left of the frame (both coordinates negative) draws nothing, as in the public code, even if its disk reaches
    into the frame (docs/PAPERS.md, RITM: clicks as maps).
    """
    return (squared_distances(clicks, hw) <= radius * radius).to(torch.float32)


def gaussian_maps(clicks: ClickBatch, hw: tuple[int, int], sigma: float = 10.0) -> Tensor:
    """Draw clicks as Gaussian spots: float32 (b, 2, h, w), channel 0 positive, 1 negative.

    The value is exp(-4 ln2 d^2 / sigma^2), which is 1/2 at sigma / 2 pixels; d is the Euclidean distance to the nearest
    click of the sign, at most 255, and 255 where there is no click. Fractional clicks are not rounded. A click outside
    the frame draws the part of its spot that reaches in. The public code allows only whole pixels inside the frame
    (docs/PAPERS.md, FocusCut: network).
    """
    squared = squared_distances(clicks, hw, drawn=clicks.valid).clamp_(max=FARTHEST**2)
    # exp2 absorbs the factor ln 2, and unlike exp it is not slow where it underflows.
    return squared.mul_(-4 / sigma**2).exp2_()


def squared_distances(clicks: ClickBatch, hw: tuple[int, int], drawn: Tensor | None = None) -> Tensor:
    """Squared distance of each pixel to the nearest click of each sign, (b, 2, h, w); infinite without such a click.

    `drawn` bool (b, n) selects the clicks that count; None selects those that `disk_maps` draws.
    """
    height, width = hw
    if drawn is None:
        drawn = clicks.valid & (clicks.yx.amax(-1) >= 0)
    yx = clicks.yx
    rows = torch.arange(height, device=yx.device, dtype=yx.dtype)
    columns = torch.arange(width, device=yx.device, dtype=yx.dtype)
    dx2 = (columns - yx[..., 1:2]).square()  # (b, n, w)
    signs = []
    for sign in (clicks.positive, ~clicks.positive):
        # Padding is moved infinitely far away, which saves a masking pass over the pixels.
        chosen = sign & drawn
        dy2 = (rows - yx[..., 0:1]).square().masked_fill(~chosen[..., None], torch.inf)  # (b, n, h)
        if torch.compiler.is_compiling():  # a graph cannot depend on the number of clicks: all at once, n times as big
            signs.append((dy2[..., None] + dx2[..., None, :]).amin(1))
            continue
        nearest = torch.full((yx.shape[0], height, width), torch.inf, device=yx.device, dtype=yx.dtype)
        # Only the clicks of this sign, up to the longest list of the batch: at most a few dozen small outer sums.
        order = chosen.to(torch.int8).argsort(dim=1, descending=True, stable=True)
        batch = torch.arange(yx.shape[0], device=yx.device)
        for k in range(int(chosen.sum(1).max())):
            index = order[:, k]
            torch.minimum(nearest, dy2[batch, index][:, :, None] + dx2[batch, index][:, None, :], out=nearest)
        signs.append(nearest)
    return torch.stack(signs, 1)


def coordinate_maps(prev_mask: Tensor, clicks: ClickBatch, radius: float = 5.0) -> Tensor:
    """Stack the previous mask (b, 1, h, w) and the clicks' disks to (b, 3, h, w), in the mask's dtype."""
    disks = disk_maps(clicks, (prev_mask.shape[2], prev_mask.shape[3]), radius)
    return torch.cat([prev_mask, disks.to(prev_mask.dtype)], 1)
