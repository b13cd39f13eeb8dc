"""Tell what a file is: which registered network its config or its shapes name, or a backbone without a head."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from models.errors import InputError
from models.fit import check_fit, shapes_of
from models.networks import NETWORKS, create
from models.published import family, translate

CLASSES = {
    "HRNetModel": ("ritm_hrnet",),
    "HRNetRefineModel": ("emc_hrnet",),
    "SegFormerModel": ("emc_segformer",),
    "PlainVitModel": ("simpleclick_vit", "icmformer_vit"),
}
"""By the last part of a config's class: how our names of its networks start."""

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
"""Fields of our configs: where the authors' configs have them."""

BEHAVIOUR = {
    "": {("use_disks",): True, ("norm_radius",): 5},
    "ritm_hrnet": {
        ("with_prev_mask",): True,
        ("use_leaky_relu",): True,
        ("use_rgb_conv",): False,
        ("binary_prev_mask",): False,
    },
    "simpleclick_vit": {("with_prev_mask",): True, ("random_split",): False, ("head_params", "upsample"): "x1"},
}
"""What our networks do, by the start of their names: settings that no tensor's shape would show."""

BACKBONES = {
    "ViT": ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight"),
    "Swin": ("patch_embed.proj.weight", "layers.0.blocks.0.attn.qkv.weight"),
    "MiT": ("patch_embed1.proj.weight", "block1.0.attn.q.weight"),
    "HRNet": ("conv1.weight", "stage2.0.branches.0.0.conv1.weight"),
    "ResNet": ("conv1.weight", "layer1.0.conv1.weight"),
}
"""Tensors by which the files of timm, torchvision, MAE and the authors' pre-training are known."""

MODELS = {
    "refiner.": ("emc_hrnet", "emc_segformer"),
    "maps_transform.": ("ritm_hrnet",),
    "my_aspp.": ("focuscut_resnet",),
    "backbone.blocks2.": ("icmformer_",),
    "patch_embed_coords.": ("simpleclick_vit",),
    "sam_prompt_encoder.": ("sam2_hiera",),
    "prompt_encoder.": ("sam_vit", "mobile_sam"),
}
"""Tensors that only click-to-mask networks have, and how our names of such networks start; the first found counts."""


@dataclass(frozen=True, kw_only=True)
class PublishedConfig:
    """What a file says of the network that it was saved from: its dotted class, and values by parameter."""

    class_name: str
    params: dict[str, Any] = field(default_factory=dict)

    def at(self, path: tuple[str, ...]) -> Any:
        """Value at a path of names; None where the config does not have it."""
        value: Any = self.params
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return tuple(value) if isinstance(value, list) else value


def config_of(content: Any) -> PublishedConfig | None:
    """Config beside the weights in what `read_file` returned, if it has the authors' form."""
    config = content.get("config") if isinstance(content, Mapping) else None
    if not isinstance(config, Mapping) or not isinstance(config.get("class"), str):
        return None
    given = config.get("params")
    params = given if isinstance(given, Mapping) else {}
    values = {str(key): part["value"] for key, part in params.items() if isinstance(part, Mapping) and "value" in part}
    return PublishedConfig(class_name=config["class"], params=values)


def claimed(config: PublishedConfig) -> list[str] | None:
    """Registered networks that a config names; None if its class is not known, [] if none has its shape."""
    starts = CLASSES.get(config.class_name.rpartition(".")[2])
    if starts is None:
        return None
    names = [name for name in NETWORKS if name.startswith(starts)]
    wanted = {key: value for key, path in SHAPE.items() if (value := config.at(path)) is not None}
    return [
        name for name in names if all(getattr(NETWORKS[name], key, value) == value for key, value in wanted.items())
    ]


def check_behaviour(config: PublishedConfig, name: str) -> None:
    """Raise InputError if a config sets something that network `name` does otherwise and no shape would show."""
    for start, settings in BEHAVIOUR.items():
        for path, ours in settings.items():
            theirs = config.at(path)
            if name.startswith(start) and theirs is not None and theirs != ours:
                raise InputError(
                    f"the file's config has {'.'.join(path)} = {theirs!r}: network {name} does {ours!r} only, and its "
                    "answers would differ"
                )


def fits(name: str, state: Mapping[str, Tensor]) -> bool:
    """Whether every tensor of a published file has its place in network `name`, by names and shapes."""
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
    """Registered networks that a published file fits."""
    starts = next((starts for mark, starts in MODELS.items() if any(key.startswith(mark) for key in state)), None)
    return [] if starts is None else [name for name in NETWORKS if name.startswith(starts) and fits(name, state)]


def is_model(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has parts that only click-to-mask networks have."""
    return any(key.startswith((*MODELS, "feature_extractor.")) for key in state)


def backbone_kind(state: Mapping[str, Tensor]) -> str | None:
    """Kind of backbone that a state dict is, a key of BACKBONES; None for a whole model or something else."""
    if is_model(state):
        return None
    names = {key.removeprefix("backbone.") for key in state}
    return next((kind for kind, marks in BACKBONES.items() if names.issuperset(marks)), None)
