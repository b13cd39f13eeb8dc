"""Run lengths of a mask on any device; from a GPU only the edges of the mask are copied to the host."""

import numpy as np
import torch
from torch import Tensor

from models import device, rle

ON_HOST = ("cpu",)
"""Devices whose memory NumPy can read directly, where it finds edges in a fifth of torch's time."""


def runs_of(mask: Tensor) -> np.ndarray:
    """Return the run lengths, int64, of a bool mask (h, w) in column-major order; the first run counts zeros."""
    if mask.device.type in ON_HOST:
        return rle.runs_of(device.to_host(mask))
    height, width = mask.shape
    y, x = torch.nonzero(mask[1:] != mask[:-1], as_tuple=True)
    across = torch.nonzero(mask[0, 1:] != mask[-1, :-1])[:, 0] + 1
    edges = torch.cat([x * height + y + 1, across * height]).sort().values
    first = device.to_host(torch.cat([mask[0, 0].long()[None], edges]))
    start = [0, 0] if first[0] else [0]
    return np.diff(np.concatenate([start, first[1:], [height * width]])).astype(np.int64)
