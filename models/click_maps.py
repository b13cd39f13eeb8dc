"""Clicks as tensors: batches of click lists, and the maps of disks that networks see."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.interaction import Clicks


@dataclass(frozen=True, eq=False)
class ClickBatch:
    """Click lists of a batch, padded to one length n.

    `yx` float32 (b, n, 2) in the frame of the image; `positive` bool (b, n); `valid` bool (b, n), False = padding.
    `first` bool (b, n) marks first clicks: one a sample, or one for each of several objects that are segmented as one.
    Where the valid clicks stand among the padding means nothing to a network.
    """

    yx: Tensor
    positive: Tensor
    valid: Tensor
    first: Tensor

    def to(self, device: torch.device | str) -> "ClickBatch":
        """Copy to a device."""
        return ClickBatch(*(part.to(device) for part in (self.yx, self.positive, self.valid, self.first)))


def collate_clicks(batch: Sequence[Clicks]) -> ClickBatch:
    """Pad click lists to the longest of the batch."""
    num = max([1, *(len(clicks) for clicks in batch)])
    yx = torch.full((len(batch), num, 2), -1.0)
    positive = torch.zeros(len(batch), num, dtype=torch.bool)
    valid = torch.zeros(len(batch), num, dtype=torch.bool)
    for row, clicks in enumerate(batch):
        yx[row, : len(clicks)] = torch.from_numpy(clicks.yx).float()
        positive[row, : len(clicks)] = torch.from_numpy(clicks.positive)
        valid[row, : len(clicks)] = True
    first = torch.zeros_like(valid)
    first[:, 0] = valid[:, 0]
    return ClickBatch(yx, positive, valid, first)


def disk_maps(clicks: ClickBatch, hw: tuple[int, int], radius: float = 5.0) -> Tensor:
    """Draw clicks as filled disks: float32 (b, 2, h, w), channel 0 positive, 1 negative (spec section 1).

    A pixel is 1 when its squared distance to a click is <= radius^2; fractional clicks are used as they are. A click
    above *and* left of the frame (both coordinates negative) draws nothing, as in the public code, though its disk
    might reach in.
    """
    height, width = hw
    drawn = clicks.valid & (clicks.yx.amax(-1) >= 0)
    # Far outside any disk's reach instead of a mask, so that padding costs no extra pass over the pixels.
    yx = torch.where(drawn[..., None], clicks.yx, torch.full_like(clicks.yx, -1e6))
    rows = torch.arange(height, device=yx.device, dtype=yx.dtype)
    columns = torch.arange(width, device=yx.device, dtype=yx.dtype)
    dy2 = (rows - yx[..., 0:1]).square()  # (b, n, h)
    dx2 = (columns - yx[..., 1:2]).square()  # (b, n, w)
    maps = []
    for sign in (clicks.positive, ~clicks.positive):
        hit = torch.zeros(yx.shape[0], height, width, dtype=torch.bool, device=yx.device)
        # Only the clicks of this sign, longest list of the batch: at most a few dozen small outer sums.
        chosen = sign & drawn
        order = chosen.to(torch.int8).argsort(dim=1, descending=True, stable=True)
        for k in range(int(chosen.sum(1).max())):
            index = order[:, k]
            batch = torch.arange(len(index), device=yx.device)
            near = (dy2[batch, index][:, :, None] + dx2[batch, index][:, None, :]) <= radius * radius
            hit |= near & chosen[batch, index][:, None, None]
        maps.append(hit)
    return torch.stack(maps, 1).to(torch.float32)


def coordinate_maps(prev_mask: Tensor, clicks: ClickBatch, radius: float = 5.0) -> Tensor:
    """Stack the previous mask (b, 1, h, w) and the clicks' disks: (b, 3, h, w), in the mask's type."""
    disks = disk_maps(clicks, (prev_mask.shape[2], prev_mask.shape[3]), radius)
    return torch.cat([prev_mask, disks.to(prev_mask.dtype)], 1)
