"""Published iCMFormer files (spec 3): no weights are public, the layout is that of the public code."""

import re
from typing import Any

from models.published import plain_vit
from models.published.family import Family, Shapes, conv, norm

CROSS = re.compile(r"backbone\.(?!layers\.|patch_embed\.|norm\d)[\w.]+?\.(\d+)\.((?:norm[123]|attn[12]|mlp)\..+)")
"""A tensor of Swin's cross blocks: what the authors call their group is not known (the plain ViT's is `blocks2`)."""


def swin_rename(key: str) -> str:
    """Put the cross blocks where ours are, whatever their group is called."""
    cross = CROSS.fullmatch(key)
    return f"backbone.blocks2.{cross[1]}.{cross[2]}" if cross else key


def swin_dead(config: Any) -> Shapes:
    """A patch embedding for clicks that is never run, each block's index table (we compute it), and up-convolutions.

    With these the parameters add up to the published 121,459,833, given cross blocks as in the plain ViT (both
    attentions with a full projection of queries, keys and values, biases everywhere) and a norm in the unused patch
    embedding.
    """
    shapes = conv("patch_embed_coords.proj", 3, config.dim, side=config.patch) | norm(
        "patch_embed_coords.norm", config.dim
    )
    for level, depth in enumerate(config.depths):
        for number in range(depth):
            name = f"backbone.layers.{level}.blocks.{number}.attn.relative_position_index"
            shapes[name] = (config.window**2, config.window**2)
    return shapes | plain_vit.up_convolutions(config.head_dim)


LICENCE = "iCMFormer's own: see the LICENSE file of its project"

ICMFORMER = Family(
    prefix="icmformer_vit",
    reshape=plain_vit.reshape,
    dead=plain_vit.dead,
    licence=LICENCE,
    refinement="zoom_in_flip",
)
ICMFORMER_SWIN = Family(
    prefix="icmformer_swin", rename=swin_rename, dead=swin_dead, licence=LICENCE, refinement="zoom_in_flip"
)
