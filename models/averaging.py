"""Average the weights of checkpoints, to keep the gain of fine-tuning and forget less of the earlier training.

Wortsman et al. 2022: "Robust fine-tuning of zero-shot models" (averages a model before and after fine-tuning) and
"Model soups" (averages several fine-tunings of one model). All checkpoints must descend from the same initial weights:
the mean of unrelated weights is useless.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from models import checkpoint
from models.errors import InputError
from models.fingerprints import trained_on
from models.networks.base import Network


def average(folders: Sequence[str | Path], shares: Sequence[float]) -> tuple[Network, set[int], list[dict[str, Any]]]:
    """Return a network with the mean weights, the fingerprints of all training photos, and each SHA-256 and share.

    `shares` are positive and are divided by their sum. Integer tensors are taken from the first checkpoint. Raises
    InputError if the checkpoints differ in network or config, or if `shares` has another length.
    """
    if len(folders) < 2:
        raise InputError(f"expected at least two checkpoints, got {len(folders)}")
    if len(shares) != len(folders):
        raise InputError(f"{len(folders)} checkpoints and {len(shares)} shares: expected one share per checkpoint")
    if not all(math.isfinite(share) and share > 0 for share in shares):
        raise InputError(f"shares {', '.join(map(str, shares))}: expected numbers above 0")
    first = checkpoint.load(folders[0])[0]
    mean: dict[str, Tensor] = {}
    photos: set[int] = set()
    parts: list[dict[str, Any]] = []
    for folder, part in zip(folders, shares, strict=True):
        network, described = checkpoint.load(folder, expected_network=first.name)
        if network.config != first.config:
            raise InputError(f"{folder} has config {described['config']}: expected the config of {folders[0]}")
        share = part / sum(shares)
        for name, weight in network.state_dict().items():
            if weight.is_floating_point():
                mean[name] = mean[name] + share * weight.double() if parts else share * weight.double()
        photos |= trained_on(described)
        parts.append({"sha256": described["sha256"], "share": share})
    state = first.state_dict()
    first.load_state_dict(
        {name: mean[name].to(weight.dtype) if name in mean else weight for name, weight in state.items()}
    )
    return first, photos, parts
