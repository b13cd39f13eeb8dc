"""Where host and device meet: arrays are on the host, tensors are where the network is, and this is the way between."""

import numpy as np
import torch
from torch import Tensor


def to_device(array: np.ndarray, device: torch.device | str) -> Tensor:
    """Bring an array to where a network is; on the CPU both share memory."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"])).to(device)


def to_host(tensor: Tensor) -> np.ndarray:
    """Bring a tensor to the host; on the CPU both share memory."""
    return tensor.detach().cpu().numpy()
