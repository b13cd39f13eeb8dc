"""Files in the format of the networks' authors."""

from typing import Any

import torch
from torch import Tensor

from models import published
from models.networks.base import Network


def authors_state(network: Network) -> dict[str, Tensor]:
    """Return a network's weights as in such a file: with the class token's position, unused tensors and aliases."""
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    if "backbone.pos_embed" in state:
        position = state["backbone.pos_embed"]
        state["backbone.pos_embed"] = torch.cat([torch.full((1, 1, position.shape[2]), 9.0), position], 1)
    aliases = {
        key.replace("corr_conv.", f"corr_conv_{sign}."): tensor
        for key, tensor in state.items()
        for sign in ("pos", "neg")
        if "corr_conv." in key
    }
    dead = {key: torch.ones(shape) for key, shape in published.family(network).dead(network.config).items()}
    return state | aliases | dead


def authors_config(class_name: str, **params: Any) -> dict[str, Any]:
    """Return a config as the authors serialise it."""
    listed = {key: {"type": "builtin", "value": value, "specified": True} for key, value in params.items()}
    return {"class": f"isegm.model.{class_name}", "params": listed}
