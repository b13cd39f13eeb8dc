"""Exact squared Euclidean distances, batched, on the device that holds the masks, without asking it anything."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

CHUNK = {"cpu": 2**24, "cuda": 2**29}
"""Most sums of one piece of the work: eager code holds them all at once, 4 to 8 bytes each."""


def label_distances(labels: Tensor) -> Tensor:
    """Squared distance of each pixel to the nearest one of another label; beyond the frame are other labels: int32.

    `labels` (b, h, w), any integers. Exact (Felzenszwalb & Huttenlocher's two passes, the second one by brute force,
    which is what a device likes). Two masks that do not overlap cost one transform: label them 1 and 2.
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
    """Squared distance of each pixel of bool masks (b, h, w) to the nearest pixel outside, int32; 0 outside.

    Outside begins beyond the frame.
    """
    return label_distances(mask.to(torch.int8)) * mask


def _columns(labels: Tensor) -> Tensor:
    """Distance along the column to the nearest pixel of another label, or beyond the frame: int32 (b, h, w)."""
    height = labels.shape[1]
    rows = torch.arange(height, device=labels.device, dtype=torch.int32)[None, :, None].expand(labels.shape)
    changes = labels[:, 1:] != labels[:, :-1]
    no, first = torch.zeros_like(rows), torch.zeros_like(rows[:, :1])
    # The row in which the run of equal labels begins, and the one in which it ends.
    begins = torch.cat([first, torch.where(changes, rows[:, 1:], no[:, 1:])], 1).cummax(1).values
    last = torch.full_like(first, height - 1)
    ends = torch.cat([torch.where(changes, rows[:, :-1], no[:, 1:] + height), last], 1)
    ends = ends.flip(1).cummin(1).values.flip(1)
    return torch.minimum(rows - begins, ends - rows) + 1


def _rows(along: Tensor, labels: Tensor, across: Tensor) -> Tensor:
    """Least sum of the squares along the column and across: (rows, w) -> (rows, w)."""
    same = labels[:, :, None] == labels[:, None, :]
    return (torch.where(same, along[:, None, :], 0) + across).amin(2)


def _compiled(along: Tensor, labels: Tensor, across: Tensor) -> Tensor:
    """As one kernel, the sums of a pixel never leave the registers; eager, they would be w times the mask.

    One compilation for each width, whatever the number of rows; beyond dynamo's limit of them it runs eager.
    """
    for rows in (along, labels):
        torch._dynamo.mark_dynamic(rows, 0)
    return _compiler()(along, labels, across)


@functools.cache
def _compiler() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    return torch.compile(_rows)
