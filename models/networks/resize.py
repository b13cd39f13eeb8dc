"""Bilinear resizing as matrix products: what a decoder adds up at one size, in one pass over the result."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def weights(num_in: int, num_out: int, like: Tensor, align_corners: bool) -> Tensor:
    """Matrix (num_out, num_in) that resizes an axis linearly, as torch's interpolation does."""
    eye = torch.eye(num_in, device=like.device)[None]
    return F.interpolate(eye, size=num_out, mode="linear", align_corners=align_corners)[0].T.to(like.dtype)


def sum_upsampled(first: Tensor, others: Sequence[Tensor], *, align_corners: bool = False) -> Tensor:
    """Add maps (b, *, *, c), channels last and bilinearly resized to the size of the first, onto it, in place.

    Resizing is linear along each axis. The columns are done at each map's own height, the rows of all maps together in
    one product that accumulates onto the first map; on a CPU several times faster than resizing and adding in turn.
    """
    b, height, width, _ = first.shape
    wide = [torch.matmul(weights(x.shape[2], width, x, align_corners), x).flatten(2) for x in others]
    rows = torch.cat([weights(x.shape[1], height, x, align_corners) for x in others], 1)
    total = first.contiguous().view(b, height, -1)
    return total.baddbmm_(rows.expand(b, -1, -1), torch.cat(wide, 1)).view(first.shape)
