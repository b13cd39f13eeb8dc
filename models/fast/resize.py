"""Bilinear resizing as matrix products, so that a decoder sums maps of several sizes in one pass over the result."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from models.fast.convolution import conv2d


def weights(num_in: int, num_out: int, like: Tensor, align_corners: bool) -> Tensor:
    """Return the matrix (num_out, num_in) that resizes an axis linearly, as torch's interpolation does."""
    exact = torch.promote_types(like.dtype, torch.float32)
    eye = torch.eye(num_in, device=like.device, dtype=exact)[None]
    return F.interpolate(eye, size=num_out, mode="linear", align_corners=align_corners)[0].T.to(like.dtype)


def sum_upsampled(first: Tensor, others: Sequence[Tensor], *, align_corners: bool = False) -> Tensor:
    """Resize channels-last maps (b, *, *, c) bilinearly to the size of the first and add them to it, in place.

    Resizing is linear along each axis. Columns are resized at each map's own height, and the rows of all maps in one
    product that accumulates onto the first map. On a CPU this is several times faster than resizing and adding in turn.
    """
    b, height, width, _ = first.shape
    wide = stretched([(weights(x.shape[2], width, x, align_corners), x) for x in others])
    rows = torch.cat([weights(x.shape[1], height, x, align_corners) for x in others], 1)
    total = first.contiguous().view(b, height, -1)
    return total.baddbmm_(rows.expand(b, -1, -1), wide).view(first.shape)


def stretched(parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Apply a matrix (w, m) to the columns of each map (b, h, m, c); return all maps' rows as (b, rows, w * c)."""
    first = parts[0][1]
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or first.shape[0] > 1:
        return torch.cat([torch.matmul(matrix, x).flatten(2) for matrix, x in parts], 1)
    # For one image, each product is written to its place in the result without a copy.
    width, channels = parts[0][0].shape[0], first.shape[3]
    out = first.new_empty(sum(x.shape[1] for _, x in parts), width, channels)
    start = 0
    for matrix, x in parts:
        rows = x.shape[1]
        torch.bmm(matrix.expand(rows, -1, -1), x[0], out=out[start : start + rows])
        start += rows
    return out.flatten(1)[None]


def conv_upsampled(first: Tensor, others: Sequence[Tensor], weight: Tensor, bias: Tensor | None) -> Tensor:
    """Apply a 3x3 kernel to the first map (b, c, h, w) and the others, as if resized to it and concatenated.

    Resizing aligns corners; the zero padding is 1. The kernel's nine taps commute with the resizing, so each map is
    multiplied at its own size and the taps' shifts become shifts of the resizing matrices. If most channels have low
    resolution, as in HRNet, this takes a third of the products and avoids the concatenated map.
    """
    h, w = first.shape[2:]
    own = weight.split([first.shape[1], *(x.shape[1] for x in others)], 1)
    rows, wide = [], []
    with torch.autocast(first.device.type, enabled=False):  # all in the precision of the weights
        total = conv2d(first.to(weight.dtype), own[0], bias, padding=(1, 1)).permute(0, 2, 3, 1).contiguous()
        for low, kernel in zip(others, own[1:], strict=True):
            x = low.permute(0, 2, 3, 1).to(total.dtype)
            columns = shifted(weights(x.shape[2], w, x, True)).permute(0, 2, 1).flatten(1)  # (w, 3 * width of x)
            for dy, row in enumerate(shifted(weights(x.shape[1], h, x, True)).unbind(1)):
                products = F.linear(x, kernel[:, :, dy].permute(2, 0, 1).flatten(0, 1))  # (..., dx and output)
                wide.append((columns, products.unflatten(3, (3, -1)).flatten(2, 3)))
                rows.append(row)
        total.flatten(2).baddbmm_(torch.cat(rows, 1).expand(total.shape[0], -1, -1), stretched(wide))
    return total.permute(0, 3, 1, 2)


def shifted(matrix: Tensor) -> Tensor:
    """Stack a resizing matrix (n, m) for the taps of a 3-wide kernel, (n, 3, m): shifted left, unshifted, right."""
    padded = F.pad(matrix, (0, 0, 1, 1))
    return torch.stack([padded[:-2], matrix, padded[2:]], 1)
