"""Published files of SAM, MobileSAM and SAM 2.1, under the names of the authors' code; all are Apache-2.0."""

import re
from typing import Any

from torch import Tensor

from models.published.family import Family, Shapes, conv, linear, norm

LICENCE = "Apache-2.0"

STEM = {"image_encoder.patch_embed.seq.0.": "conv1", "image_encoder.patch_embed.seq.2.": "conv2"}


def sam_rename(key: str) -> str:
    """Return our name of a tensor: SAM's ViT has timm's names except in its MLPs."""
    return re.sub(r"^(image_encoder\.blocks\.\d+\.mlp)\.lin(\d)\.", r"\1.fc\2.", key)


def mobile_sam_rename(key: str) -> str:
    """Return our name of a tensor: timm's TinyViT renames convolutions and norms, and merges before a stage."""
    if not key.startswith("image_encoder.") or key.startswith("image_encoder.neck."):
        return key
    for start, name in STEM.items():
        key = key.replace(start, f"image_encoder.trunk.patch_embed.{name}.")
    merging = re.fullmatch(r"image_encoder\.layers\.(\d)\.downsample\.(.+)", key)
    if merging:
        key = f"image_encoder.trunk.stages.{int(merging[1]) + 1}.downsample.{merging[2]}"
    key = key.replace("image_encoder.layers.", "image_encoder.trunk.stages.")
    return re.sub(r"\.c\.(\w+)$", r".conv.\1", key)


def mobile_sam_dead(config: Any) -> Shapes:
    """Return the shapes of TinyViT's classifier."""
    return norm("image_encoder.norm_head", config.dims[-1]) | linear("image_encoder.head", config.dims[-1], 1000)


def sam2_rename(key: str) -> str:
    """Return our name of a tensor: SAM's names for the halves of SAM 2, and timm's names for Hiera's MLPs."""
    key = re.sub(r"^sam_(prompt_encoder|mask_decoder)\.", r"\1.", key)
    key = "no_mem_embed.weight" if key == "no_mem_embed" else key
    key = re.sub(r"^image_encoder\.neck\.convs\.(\d)\.conv\.", r"image_encoder.laterals.\1.", key)
    for number, (ours, theirs) in enumerate((("fc1", "lin1"), ("fc2", "lin2"))):
        key = re.sub(rf"^(image_encoder\.trunk\.blocks\.\d+\.mlp)\.layers\.{number}\.", rf"\1.{ours}.", key)
        key = re.sub(rf"^(mask_decoder\.transformer\.layers\.\d\.mlp)\.layers\.{number}\.", rf"\1.{theirs}.", key)
    return key


def sam2_reshape(key: str, tensor: Tensor) -> Tensor:
    """Reshape the token for an empty memory, which is an embedding with one row here."""
    return tensor[0] if key == "no_mem_embed" else tensor


def sam2_dead(config: Any) -> Shapes:
    """Return the shapes of the memory of videos: encoder, attention, pointers and positions; SAM 2.0 lacks three."""
    shapes: Shapes = {
        "maskmem_tpos_enc": (7, 1, 1, 64),
        "no_mem_pos_enc": (1, 1, 256),
        "no_obj_ptr": (1, 256),
        "no_obj_embed_spatial": (1, 64),
    }
    shapes |= conv("mask_downsample", 1, 1, side=4) | linear("obj_ptr_tpos_proj", 256, 64)
    for number in range(3):
        shapes |= linear(f"obj_ptr_proj.layers.{number}", 256, 256)
    for number in range(4):
        layer = f"memory_attention.layers.{number}"
        for projection in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear(f"{layer}.self_attn.{projection}", 256, 256)
            memory = 64 if projection in ("k_proj", "v_proj") else 256
            shapes |= linear(f"{layer}.cross_attn_image.{projection}", memory, 256)
        shapes |= linear(f"{layer}.linear1", 256, 2048) | linear(f"{layer}.linear2", 2048, 256)
        for place in (1, 2, 3):
            shapes |= norm(f"{layer}.norm{place}", 256)
    shapes |= norm("memory_attention.norm", 256)
    encoder = "memory_encoder.mask_downsampler.encoder"
    for place, (dim_in, dim_out) in enumerate(((1, 4), (4, 16), (16, 64), (64, 256))):
        shapes |= conv(f"{encoder}.{3 * place}", dim_in, dim_out, side=3) | norm(f"{encoder}.{3 * place + 1}", dim_out)
    shapes |= conv(f"{encoder}.12", 256, 256)
    shapes |= conv("memory_encoder.pix_feat_proj", 256, 256) | conv("memory_encoder.out_proj", 256, 64)
    for number in range(2):
        layer = f"memory_encoder.fuser.layers.{number}"
        shapes |= {f"{layer}.gamma": (256,), f"{layer}.dwconv.weight": (256, 1, 7, 7), f"{layer}.dwconv.bias": (256,)}
        shapes |= norm(f"{layer}.norm", 256)
        shapes |= linear(f"{layer}.pwconv1", 256, 1024) | linear(f"{layer}.pwconv2", 1024, 256)
    return shapes


MARKS = ("prompt_encoder.",)

SAM = Family(prefix="sam_vit", rename=sam_rename, licence=LICENCE, refinement="sam", marks=MARKS)
MOBILE_SAM = Family(
    prefix="mobile_sam",
    rename=mobile_sam_rename,
    dead=mobile_sam_dead,
    licence=LICENCE,
    refinement="sam",
    marks=MARKS,
)
SAM2 = Family(
    prefix="sam2_hiera",
    rename=sam2_rename,
    reshape=sam2_reshape,
    dead=sam2_dead,
    licence=LICENCE,
    refinement="sam",
    marks=("sam_prompt_encoder.",),
)
