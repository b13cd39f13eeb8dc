"""Fixtures that hold a stride of each tensor and statistics of the whole (shared format of the EMC folder)."""

import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import published
from models.networks.base import Network
from models.published.recognise import fitting
from tests.parity.cases import Case, Deviations
from tests.parity.weights import state_dict

FIELDS = frozenset({"model", "samples", "stats", "tolerance"})
"""What every file of this format has."""


def load_keys(case: Case) -> list[tuple[str, tuple[int, ...]]]:
    """(authors' key, shape) of every tensor: of the key file itself, or of the one that a case names."""
    content = case.content
    if isinstance(content["keys"], str):
        content = json.loads(case.path.with_name(content["keys"]).read_text())
    return [(key, tuple(shape)) for key, shape in content["keys"]]


def fill(network: Network, keys: list[tuple[str, tuple[int, ...]]]) -> Network:
    """Load the fixtures' weights through the published key names."""
    published.load(network, state_dict(keys))
    return network.eval()


def check_keys(network: Network, keys: list[tuple[str, tuple[int, ...]]], content: dict[str, Any]) -> None:
    """Every published tensor has its place or is known to be unused, and the parameters add up; `network` on meta."""
    state = {key: torch.empty(shape, device="meta") for key, shape in keys}
    ours, report = published.translate(network, state)
    assert report.missing_dead == ()
    assert fitting(state) == [network.name]
    assert {key: tensor.shape for key, tensor in ours.items()} == {
        key: tensor.shape for key, tensor in network.state_dict().items()
    }
    family = published.family(network)
    buffers = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index")
    values = sum(
        tensor.numel() for key, tensor in state.items() if not key.endswith(buffers) and family.alias(key) is None
    )
    assert values == content["n_params"]
    built = sum(parameter.numel() for parameter in network.parameters())
    assert built <= values


def compare(case: Case, name: str, ours: Tensor, worst: Deviations) -> None:
    """Hold a whole tensor against array `out_NAME`, its strides and its statistics."""
    content, expected = case.content, case.arrays[f"out_{name}"]
    full = ours.detach().double().numpy()
    stats = content["stats"][name]
    assert list(full.shape) == stats["shape"], f"{name}: {full.shape}, expected {stats['shape']}"
    mean, std, low, high, l2 = stats["mean_std_min_max_l2"]
    sampled = full[tuple(slice(None, None, stride) for stride in content["samples"][name])]
    bound = 1e-4 * np.abs(expected) + 1e-3 * std
    off = float((np.abs(sampled - expected) / bound).max())
    assert off <= 1, f"{name}: {off:.3g} of the bound"
    found = np.array([full.mean(), full.std(), full.min(), full.max(), np.sqrt((full**2).sum())])
    given = np.array([mean, std, low, high, l2])
    room = 1e-3 * std + 1e-4 * np.abs(given)
    assert (np.abs(found - given) <= room).all(), f"{name}: mean, std, min, max, l2 are {found}, expected {given}"
    worst[f"{name} (of the bound)"] = off


def image_tensor(image: np.ndarray) -> Tensor:
    """uint8 RGB (b, h, w, 3) or (h, w, 3) to float (b, 3, h, w) in 0..1."""
    batch = image if image.ndim == 4 else image[None]
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 255
