"""Start a network from weights that were pre-trained for something else."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.fit import check_fit, shapes_of


def copy_tensors(network: nn.Module, state: Mapping[str, Tensor], names: Mapping[str, str], what: str) -> list[str]:
    """Copy tensors of `state` into `network`, in place; `names`: ours -> theirs; returns ours.

    Raises InputError naming what is missing or of another shape: then nothing was copied.
    """
    own = network.state_dict()
    check_fit(
        f"these weights are not of the {what} that this network is built around:",
        {theirs: tuple(own[ours].shape) for ours, theirs in names.items()},
        shapes_of({theirs: state[theirs] for theirs in names.values() if theirs in state}),
    )
    with torch.no_grad():
        for ours, theirs in names.items():
            own[ours].copy_(state[theirs])
    return list(names)
