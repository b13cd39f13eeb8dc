"""Exact squared Euclidean distances, batched, on the device of the masks and without synchronising with it."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

CHUNK = {"cpu": 2**24, "cuda": 2**29}
"""Largest number of sums in one piece of the work: eager code holds them all at once, at 4 to 8 bytes each."""


def label_distances(labels: Tensor) -> Tensor:
    """Return each pixel's squared distance to the nearest pixel of another label or beyond the frame, int32.

    `labels` (b, h, w), any integers. Exact: the two passes of Felzenszwalb & Huttenlocher, the second by brute force,
    which suits a GPU. Two masks that do not overlap cost one transform: label them 1 and 2.
    """
    along = _columns(labels).square()
    width = labels.shape[2]
    places = torch.arange(width, device=labels.device, dtype=torch.int32)
    across = (places[:, None] - places[None]).square()
    flat, flat_labels = along.flatten(0, 1), labels.flatten(0, 1)
    if torch.compiler.is_compiling():
        nearest = _rows(flat, flat_labels, across)
    else:
        reduce = _compiled if labels.is_cuda else _rows
        step = max(1, CHUNK.get(labels.device.type, CHUNK["cpu"]) // (width * width))
        parts = zip(flat.split(step), flat_labels.split(step), strict=True)
        nearest = torch.cat([reduce(part, its_labels, across) for part, its_labels in parts])
    edge = torch.minimum(places + 1, width - places).square()
    return torch.minimum(nearest, edge).view_as(along)


def squared_distances(mask: Tensor) -> Tensor:
    """Return the squared distance of each pixel of bool masks (b, h, w) to the nearest pixel outside, int32; 0 outside.

    Beyond the frame is outside.
    """
    return label_distances(mask.to(torch.int8)) * mask


def _columns(labels: Tensor) -> Tensor:
    """Return the distance along the column to the nearest pixel of another label or beyond the frame, int32."""
    height = labels.shape[1]
    rows = torch.arange(height, device=labels.device, dtype=torch.int32)[None, :, None].expand(labels.shape)
    changes = labels[:, 1:] != labels[:, :-1]
    no, first = torch.zeros_like(rows), torch.zeros_like(rows[:, :1])
    # The first and the last row of the run of equal labels.
    begins = torch.cat([first, torch.where(changes, rows[:, 1:], no[:, 1:])], 1).cummax(1).values
    last = torch.full_like(first, height - 1)
    ends = torch.cat([torch.where(changes, rows[:, :-1], no[:, 1:] + height), last], 1)
    ends = ends.flip(1).cummin(1).values.flip(1)
    return torch.minimum(rows - begins, ends - rows) + 1


def _rows(along: Tensor, labels: Tensor, across: Tensor) -> Tensor:
    """Return the smallest sum of the squares along the column and across: (rows, w) -> (rows, w)."""
    same = labels[:, :, None] == labels[:, None, :]
    return (torch.where(same, along[:, None, :], 0) + across).amin(2)


def _compiled(along: Tensor, labels: Tensor, across: Tensor) -> Tensor:
    """Run `_rows` as one kernel: a pixel's sums stay in registers, where eager code needs w times the mask's memory.

    It is compiled once for each width, whatever the number of rows; beyond dynamo's limit it runs eagerly.
    """
    for rows in (along, labels):
        torch._dynamo.mark_dynamic(rows, 0)
    return _compiler()(along, labels, across)


@functools.cache
def _compiler() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return torch.compile(_rows)
