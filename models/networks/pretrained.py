"""Copy weights that were pre-trained for another task into a network."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.fit import check_fit, shapes_of


def copy_tensors(network: nn.Module, state: Mapping[str, Tensor], names: Mapping[str, str], what: str) -> list[str]:
    """Copy tensors of `state` into `network`, in place (`names`: ours -> theirs); returns our names.

    Raises InputError, before anything is copied, if tensors are missing or have another shape.
    """
    own = network.state_dict()
    check_fit(
        f"these weights do not fit the {what} of this network:",
        {theirs: tuple(own[ours].shape) for ours, theirs in names.items()},
        shapes_of({theirs: state[theirs] for theirs in names.values() if theirs in state}),
    )
    with torch.no_grad():
        for ours, theirs in names.items():
            own[ours].copy_(state[theirs])
    return list(names)
