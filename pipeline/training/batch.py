"""A training batch on the device, from the stream's columns."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.click_maps import ClickBatch


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingBatch:
    """`image` float (b, 3, h, w) in 0..1; `target` float (b, 1, h, w): 1 object, 0 background, -1 ignored.

    `clicks` has 2K rows a sample: the first K positive, the last K negative.
    """

    image: Tensor
    target: Tensor
    clicks: ClickBatch


def to_device(columns: dict[str, np.ndarray], device: torch.device | str) -> TrainingBatch:
    """Move the stream's columns (pipeline/data/rows.py) to the device; pixels cross as bytes."""
    image = torch.from_numpy(np.array(columns["image"])).to(device).permute(0, 3, 1, 2).float() / 255
    target = torch.from_numpy(np.array(columns["object_mask"])).to(device).float()
    ignore = torch.from_numpy(np.array(columns["ignore_mask"])).to(device).bool()
    target = target.masked_fill(ignore, -1.0)[:, None]
    valid = torch.from_numpy(np.array(columns["clicks_valid"])).to(device)
    yx = torch.from_numpy(np.array(columns["clicks_yx"])).to(device).float()
    half = valid.shape[1] // 2
    positive = (torch.arange(valid.shape[1], device=valid.device) < half).expand_as(valid)
    first = torch.zeros_like(valid)
    first[:, 0] = valid[:, 0]
    return TrainingBatch(image=image, target=target, clicks=ClickBatch(yx, positive, valid, first))
