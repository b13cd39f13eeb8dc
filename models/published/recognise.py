"""Recognise published files: the registered network that a file's config or shapes match, or a backbone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from models.errors import InputError
from models.fit import check_fit, shapes_of
from models.networks import NETWORKS, create, deeplab, hrnet, icmformer_swin, mit, plain_vit
from models.published import FAMILIES, family, translate

SHAPE = {
    "dim": ("backbone_params", "embed_dim"),
    "depth": ("backbone_params", "depth"),
    "heads": ("backbone_params", "num_heads"),
    "neck_dims": ("neck_params", "out_dims"),
    "head_dim": ("head_params", "channels"),
    "width": ("width",),
    "ocr_width": ("ocr_width",),
    "small": ("small",),
}
"""Paths in the authors' configs, by field of our configs."""

BEHAVIOUR = {("use_disks",): True, ("norm_radius",): 5}
"""Settings that all our networks implement, as in `Family.behaviour`."""

BACKBONES = {
    "ViT": plain_vit.MARKS,
    "Swin": icmformer_swin.MARKS,
    "MiT": mit.MARKS,
    "HRNet": hrnet.MARKS,
    "ResNet": deeplab.MARKS,
}
"""Tensors that identify backbones of timm, torchvision, MAE and the authors' pre-training, by kind."""


@dataclass(frozen=True, kw_only=True)
class PublishedConfig:
    """A file's description of its network: the dotted class name, and values by parameter."""

    class_name: str
    params: dict[str, Any] = field(default_factory=dict)

    def at(self, path: tuple[str, ...]) -> Any:
        """Return the value at a path of names; None if the config does not have it."""
        value: Any = self.params
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return tuple(value) if isinstance(value, list) else value


def config_of(content: Any) -> PublishedConfig | None:
    """Return the config beside the weights in the result of `read_file`, if it has the authors' form."""
    config = content.get("config") if isinstance(content, Mapping) else None
    if not isinstance(config, Mapping) or not isinstance(config.get("class"), str):
        return None
    given = config.get("params")
    params = given if isinstance(given, Mapping) else {}
    values = {str(key): part["value"] for key, part in params.items() if isinstance(part, Mapping) and "value" in part}
    return PublishedConfig(class_name=config["class"], params=values)


def claimed(config: PublishedConfig) -> list[str] | None:
    """List the registered networks that match a config; None if its class is unknown, [] if none has its shape."""
    starts = tuple(known.prefix for known in FAMILIES if known.class_name == config.class_name.rpartition(".")[2])
    if not starts:
        return None
    names = [name for name in NETWORKS if name.startswith(starts)]
    wanted = {key: value for key, path in SHAPE.items() if (value := config.at(path)) is not None}
    return [
        name for name in names if all(getattr(NETWORKS[name], key, value) == value for key, value in wanted.items())
    ]


def check_behaviour(config: PublishedConfig, name: str) -> None:
    """Raise InputError if a config sets a behaviour that network `name` does not have and no shape would show."""
    settings = BEHAVIOUR | {
        path: ours for known in FAMILIES if name.startswith(known.prefix) for path, ours in known.behaviour.items()
    }
    for path, ours in settings.items():
        theirs = config.at(path)
        if theirs is not None and theirs != ours:
            raise InputError(
                f"the file's config has {'.'.join(path)} = {theirs!r}: network {name} supports only {ours!r}, so its "
                "masks would differ"
            )


def fits(name: str, state: Mapping[str, Tensor]) -> bool:
    """Whether a published file fits network `name`, by the names and shapes of its tensors."""
    with torch.device("meta"):
        network = create(name)
    try:
        family(network)
        ours, _ = translate(network, {key: tensor.to("meta") for key, tensor in state.items()})
        check_fit("", shapes_of(network.state_dict()), shapes_of(network.fit_state(ours)))
    except InputError:
        return False
    return True


def fitting(state: Mapping[str, Tensor]) -> list[str]:
    """List the registered networks that a published file fits."""
    starts = tuple(known.prefix for known in FAMILIES if any(key.startswith(known.marks) for key in state))
    return [name for name in NETWORKS if name.startswith(starts) and fits(name, state)]


def is_model(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has parts that only click-to-mask networks have."""
    marks = tuple(mark for known in FAMILIES for mark in known.marks)
    return any(key.startswith(marks) for key in state)


def backbone_kind(state: Mapping[str, Tensor]) -> str | None:
    """Return the kind of backbone in a state dict, a key of BACKBONES; None for a whole model or anything else."""
    if is_model(state):
        return None
    names = {key.removeprefix("backbone.") for key in state}
    return next((kind for kind, marks in BACKBONES.items() if names.issuperset(marks)), None)
