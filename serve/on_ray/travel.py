"""Convert requests and answers between deployments: tensors are sent as NumPy arrays, which Ray copies once.

A pickled tensor would include the whole storage that it is a view of, and be copied twice more.
"""

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.device import to_device, to_host

BITS = {torch.bfloat16: torch.int16}
"""Types that NumPy lacks, and the types that carry their bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """A tensor for sending: its axes in the `order` of its memory layout, and its `dtype` if NumPy lacks it."""

    array: np.ndarray
    order: tuple[int, ...]
    dtype: torch.dtype | None = None


def pack(value: Any) -> Any:
    """Replace the tensors in a request or an answer (records, tuples and lists of them) by Sent."""
    if isinstance(value, Tensor):
        order = tuple(sorted(range(value.ndim), key=value.stride, reverse=True))
        plain = value.detach().permute(order).contiguous()
        bits = BITS.get(plain.dtype)
        return Sent(to_host(plain), order) if bits is None else Sent(to_host(plain.view(bits)), order, plain.dtype)
    return _within(value, pack)


def unpack(value: Any, device: torch.device | str = "cpu") -> Any:
    """Undo `pack` on the device of a network. The tensors are copies, because other processes read Ray's memory too.

    The memory layout is preserved, because a network may round differently with another one.
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
