"""Start a network from weights that were pre-trained for something else."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.errors import InputError


def copy_tensors(network: nn.Module, state: Mapping[str, Tensor], names: Mapping[str, str], what: str) -> list[str]:
    """Copy tensors of `state` into `network`, in place; `names`: ours -> theirs; returns ours.

    Raises InputError naming what is missing or of another shape: then nothing was copied.
    """
    own = network.state_dict()
    missing = sorted({theirs for theirs in names.values() if theirs not in state})
    shapes = [
        f"{theirs}: {tuple(state[theirs].shape)} given, {tuple(own[ours].shape)} expected"
        for ours, theirs in names.items()
        if theirs in state and state[theirs].shape != own[ours].shape
    ]
    if missing or shapes:
        lines = [f"these weights are not of the {what} that this network is built around:"]
        for title, found in (("missing", missing), ("of another shape", shapes)):
            if found:
                more = f" and {len(found) - 5} more" if len(found) > 5 else ""
                lines.append(f"  {len(found)} tensors {title}: {', '.join(found[:5])}{more}")
        raise InputError("\n".join(lines))
    with torch.no_grad():
        for ours, theirs in names.items():
            own[ours].copy_(state[theirs])
    return list(names)
