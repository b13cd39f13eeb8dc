"""Mean of checkpoints, weight by weight: what fine-tuning gained, with less of what it forgot.

Wortsman et al. 2022: "Robust fine-tuning of zero-shot models" (the start of a fine-tuning and its end), "Model soups"
(several fine-tunings of one start). The checkpoints must come from one start: others' means are of no use.
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
    """Return the network of the mean weights, the photos that any was trained on, and each one's SHA-256 and share.

    `shares` are divided by their sum. What is not a number with a fraction is the first checkpoint's. Raises InputError
    if the checkpoints are of different networks or configs, or shares do not fit.
    """
    if len(folders) < 2:
        raise InputError(f"expected at least two checkpoints, got {len(folders)}")
    if len(shares) != len(folders):
        raise InputError(f"{len(folders)} checkpoints and {len(shares)} shares: expected a share for each")
    if not all(math.isfinite(share) and share > 0 for share in shares):
        raise InputError(f"shares {', '.join(map(str, shares))}: expected numbers above 0")
    first = checkpoint.load(folders[0])[0]
    mean: dict[str, Tensor] = {}
    photos: set[int] = set()
    parts: list[dict[str, Any]] = []
    for folder, part in zip(folders, shares, strict=True):
        network, described = checkpoint.load(folder, expected_network=first.name)
        if network.config != first.config:
            raise InputError(f"{folder} has config {described['config']}: expected that of {folders[0]}")
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
