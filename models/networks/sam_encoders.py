"""The image encoders of the SAM family: timm's ViT, TinyViT and Hiera with the necks of SAM and SAM 2.

They do all the heavy work on an image and see no click. Each returns maps of 256 channels at stride 16.
"""

from functools import partial
from typing import Any

import torch.nn.functional as F
from timm.layers import LayerNorm2d  # pyright: ignore[reportPrivateImportUsage]
from timm.models.hieradet_sam2 import HieraDet
from timm.models.tiny_vit import TinyVit
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import Tensor, nn

from models.networks.sam_prompts import DIM

PATCH = 16


def vit(*, side: int, dim: int, depth: int, heads: int, global_blocks: tuple[int, ...]) -> nn.Module:
    """Build SAM's ViT (as ViTDet: windows of 14 cells and a few global blocks) for frames of side x side pixels."""
    return VisionTransformerSAM(
        img_size=side,
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        global_attn_indexes=global_blocks,
        use_rel_pos=True,
        neck_chans=DIM,
        num_classes=0,
        global_pool="",
        norm_layer=partial(nn.LayerNorm, eps=1e-6),  # pyright: ignore[reportArgumentType]
    )


class TinyVitWithNeck(nn.Module):
    """MobileSAM's encoder: TinyViT with an unstrided last stage, and SAM's neck; frames may have any size."""

    def __init__(self, *, dims: tuple[int, ...], depths: tuple[int, ...], heads: tuple[int, ...]) -> None:
        super().__init__()
        self.trunk: Any = TinyVit(
            embed_dims=dims,
            depths=depths,
            num_heads=heads,
            window_sizes=(7, 7, 14, 7),
            drop_path_rate=0.0,
            num_classes=0,
        )
        self.trunk.head = nn.Identity()
        self.trunk.stages[-1].downsample.conv2.conv.stride = (1, 1)
        self.neck = nn.Sequential(
            nn.Conv2d(dims[-1], DIM, 1, bias=False),
            LayerNorm2d(DIM),
            nn.Conv2d(DIM, DIM, 3, padding=1, bias=False),
            LayerNorm2d(DIM),
        )

    def forward(self, frame: Tensor) -> Tensor:
        """Encode frames (b, 3, side, side) to (b, 256, side / 16, side / 16)."""
        return self.neck(self.trunk.stages(self.trunk.patch_embed(frame)))


class HieraWithPyramid(nn.Module):
    """SAM 2's encoder: Hiera with a feature pyramid."""

    def __init__(
        self,
        *,
        dim: int,
        heads: int,
        stages: tuple[int, ...],
        global_blocks: tuple[int, ...],
        windows: tuple[int, ...],
        position_hw: tuple[int, int],
    ) -> None:
        super().__init__()
        self.trunk: Any = HieraDet(
            embed_dim=dim,
            num_heads=heads,
            stages=stages,
            global_att_blocks=global_blocks,
            window_spec=windows,
            global_pos_size=position_hw,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),  # pyright: ignore[reportArgumentType]
            num_classes=0,
        )
        self.trunk.head = nn.Identity()
        # The deepest first, as in the authors' files.
        widths = [dim * 2**level for level in reversed(range(len(stages)))]
        self.laterals = nn.ModuleList([nn.Conv2d(width, DIM, 1) for width in widths])

    def forward(self, frame: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode frames (b, 3, side, side) to maps of 256 channels at strides 16, 8 and 4."""
        _, maps = self.trunk.forward_intermediates(frame)
        deepest, third, second, first = (conv(x) for conv, x in zip(self.laterals, reversed(maps), strict=True))
        return third + F.interpolate(deepest, scale_factor=2.0, mode="nearest"), second, first
