"""The fixtures' weight rule: every tensor follows from its published name and shape alone."""

import math
import zlib
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor


def tensor_for(key: str, shape: Sequence[int]) -> np.ndarray:
    """Values of one published tensor: scaled normal draws seeded by the CRC of its name."""
    for alias in ("corr_conv_pos.", "corr_conv_neg."):  # the same tensors under other names
        key = key.replace(f"refiner.{alias}", "refiner.corr_conv.")
    if key.endswith("num_batches_tracked"):
        return np.zeros(tuple(shape), np.int64)
    draws = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(tuple(shape))
    if len(shape) >= 2:
        values = draws / math.sqrt(math.prod(shape[1:]))
    elif key.endswith("running_var"):
        values = 1.0 + 0.1 * np.abs(draws)
    elif len(shape) == 1 and key.endswith(".weight"):
        values = 1.0 + 0.1 * draws
    else:
        values = 0.1 * draws
    return np.asarray(values, np.float32)


def state_dict(keys: Iterable[Sequence]) -> dict[str, Tensor]:
    """Fill a published key list: rows (key, shape, ...)."""
    return {key: torch.from_numpy(np.asarray(tensor_for(key, shape))) for key, shape, *_ in keys}
