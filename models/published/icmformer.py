"""iCMFormer's files: no weights are public, but their layout follows from the code (docs/PAPERS.md, iCMFormer)."""

from typing import Any

from models.published import plain_vit
from models.published.family import Family, Shapes, conv, norm


def swin_dead(config: Any) -> Shapes:
    """Return the shapes of an unused patch embedding for clicks, of computed index tables and of up-convolutions."""
    coords = "backbone.patch_embed_coords"
    shapes = conv(f"{coords}.proj", 3, config.dim, side=config.patch) | norm(f"{coords}.norm", config.dim)
    for level, depth in enumerate(config.depths):
        for number in range(depth):
            name = f"backbone.layers.{level}.blocks.{number}.attn.relative_position_index"
            shapes[name] = (config.window**2, config.window**2)
    return shapes | plain_vit.up_convolutions(config.head_dim)


LICENCE = "iCMFormer's licence: see the LICENSE file of its project"

MARKS = ("backbone.blocks2.",)

ICMFORMER = Family(
    prefix="icmformer_vit",
    reshape=plain_vit.reshape,
    dead=plain_vit.dead,
    licence=LICENCE,
    refinement="zoom_in_flip",
    marks=MARKS,
    class_name=plain_vit.CLASS,
)
ICMFORMER_SWIN = Family(
    prefix="icmformer_swin", dead=swin_dead, licence=LICENCE, refinement="zoom_in_flip", marks=MARKS
)
