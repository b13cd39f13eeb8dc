"""Published plain-ViT files of SimpleClick and CFR-ICL; iCMFormer's files share their unused tensors."""

from typing import Any

from torch import Tensor

from models.published.family import Family, Shapes, linear, norm

CLASS = "PlainVitModel"


def up_convolutions(head_dim: int) -> Shapes:
    """Return the shapes of the head's up-convolutions, an option that no published network uses."""
    shapes: Shapes = {}
    for number, dim in ((1, head_dim), (2, head_dim // 2)):
        half, name = dim // 2, f"head.up_conv{number}"
        shapes |= {f"{name}.0.weight": (dim, half, 2, 2), f"{name}.0.bias": (half,)} | norm(f"{name}.1", half)
        shapes |= {f"{name}.2.weight": (half, half, 1, 1), f"{name}.2.bias": (half,)} | norm(f"{name}.3", half)
    return shapes


def dead(config: Any) -> Shapes:
    """Return the shapes of the class token, the pre-training's classifier and the head's up-convolutions."""
    shapes: Shapes = {"backbone.cls_token": (1, 1, config.dim)}
    shapes |= norm("backbone.fc_norm", config.dim) | linear("backbone.head", config.dim, 1000)
    return shapes | up_convolutions(config.head_dim)


def reshape(key: str, tensor: Tensor) -> Tensor:
    """Drop the slot of the unused class token from the positional embedding."""
    return tensor[:, 1:] if key == "backbone.pos_embed" and tensor.dim() == 3 else tensor


SIMPLECLICK = Family(
    prefix="simpleclick_vit",
    reshape=reshape,
    dead=dead,
    licence="MIT if the file is SimpleClick's, CC BY-NC 4.0 (non-commercial) if it is CFR-ICL's",
    refinement="zoom_in_flip",
    marks=("patch_embed_coords.",),
    class_name=CLASS,
    behaviour={("with_prev_mask",): True, ("random_split",): False, ("head_params", "upsample"): "x1"},
)
