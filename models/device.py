"""Convert between arrays, which are on the host, and tensors, which are on the network's device."""

import numpy as np
import torch
from torch import Tensor


def to_device(array: np.ndarray, device: torch.device | str) -> Tensor:
    """Copy an array to a device; on the CPU array and tensor share memory."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)


def to_host(tensor: Tensor) -> np.ndarray:
    """Copy a tensor to the host; on the CPU tensor and array share memory."""
    return tensor.detach().cpu().numpy()
