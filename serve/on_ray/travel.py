"""Requests and answers as they travel between deployments: tensors as plain arrays, which Ray copies once.

A pickled tensor brings all of the storage that it is a view of, and is copied twice more.
"""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.device import to_device, to_host

BITS = {torch.bfloat16: torch.int16}
"""Types that NumPy lacks, and those that hold their bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """A tensor on its way, its axes in the `order` in which they lie in memory; `dtype` if it holds bits."""

    array: np.ndarray
    order: tuple[int, ...]
    dtype: torch.dtype | None = None


def pack(value: Any) -> Any:
    """Replace the tensors in a request or an answer (records, tuples and lists of them) by what travels."""
    if isinstance(value, Tensor):
        order = tuple(sorted(range(value.ndim), key=value.stride, reverse=True))
        plain = value.detach().permute(order).contiguous()
        bits = BITS.get(plain.dtype)
        return Sent(to_host(plain), order) if bits is None else Sent(to_host(plain.view(bits)), order, plain.dtype)
    return _within(value, pack)


def unpack(value: Any, device: torch.device | str = "cpu") -> Any:
    """Undo `pack` where a network is. The tensors are copies: what has travelled lies in memory that others read too.

    They lie in memory as they did: with another layout a network may round otherwise.
    """
    if isinstance(value, Sent):
        plain = to_device(value.array.copy(), device)
        plain = plain if value.dtype is None else plain.view(value.dtype)
        return plain.permute(tuple(map(value.order.index, range(plain.ndim))))
    return _within(value, lambda part: unpack(part, device))


def _within(value: Any, change: Any) -> Any:
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(change(each) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: change(getattr(value, field.name)) for field in fields(value)})
    return value
