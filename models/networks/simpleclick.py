"""SimpleClick: a plain ViT that adds the clicks and the previous mask to its tokens (Liu et al., ICCV 2023).

Layout and names follow the paper and the published weights. Unused tensors of those files (class token and its
positional embedding, classification head, up-convolutions) are not built (docs/PAPERS.md, SimpleClick).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.click_maps import ClickBatch, coordinate_maps
from models.networks.base import Output, upsample
from models.networks.plain_vit import (
    PatchEmbed,
    PlainViT,
    PlainViTConfig,
    PlainViTNetwork,
    mimetic_attention_,
)


@dataclass(frozen=True, kw_only=True)
class SimpleClickConfig(PlainViTConfig):
    """Shape of a SimpleClick network."""

    mimetic_start: bool = False
    """Initialise attention as in trained networks (mimetic), for small networks without pre-trained weights."""

    def build(self) -> "SimpleClick":
        """Build the network with fresh weights."""
        return SimpleClick(self)


class Backbone(PlainViT):
    """The ViT, from tokens to tokens."""

    def __init__(self, config: SimpleClickConfig) -> None:
        super().__init__(config)
        if config.mimetic_start:
            for block in self.blocks:
                mimetic_attention_(block.attn, config.heads)

    def forward(self, tokens: Tensor) -> Tensor:
        """Run the ViT: (b, gh, gw, dim) -> the same shape."""
        return self.run(self.blocks, self.add_positions(tokens))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(1, channels)


class Neck(nn.Module):
    """Build four scales (1/4, 1/8, 1/16, 1/32) from the last block's tokens."""

    def __init__(self, dim: int, dims: tuple[int, int, int, int]) -> None:
        super().__init__()
        d4, d8, d16, d32 = dims
        a, b, c = max(2 * d4, dim // 2), max(d8, dim // 2), max(d32, 2 * dim)
        self.down_4 = nn.Sequential(
            nn.ConvTranspose2d(dim, a, 2, 2), _norm(a), nn.GELU(),
            nn.ConvTranspose2d(a, a // 2, 2, 2), _norm(a // 2), nn.Conv2d(a // 2, d4, 1), _norm(d4), nn.GELU(),
        )  # fmt: skip
        self.down_8 = nn.Sequential(
            nn.ConvTranspose2d(dim, b, 2, 2), _norm(b), nn.Conv2d(b, d8, 1), _norm(d8), nn.GELU()
        )
        self.down_16 = nn.Sequential(nn.Conv2d(dim, d16, 1), _norm(d16), nn.GELU())
        self.down_32 = nn.Sequential(nn.Conv2d(dim, c, 2, 2), _norm(c), nn.Conv2d(c, d32, 1), _norm(d32), nn.GELU())

    def forward(self, x: Tensor) -> list[Tensor]:  # noqa: D102
        return [self.down_4(x), self.down_8(x), self.down_16(x), self.down_32(x)]


class ConvReLU(nn.Module):
    """1x1 convolution and ReLU, under the published name."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim_in, dim_out, 1)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return F.relu(self.conv(x))


class Head(nn.Module):
    """All-MLP decoder (SegFormer's) over the four scales, with logits at 1/4."""

    def __init__(self, dims: tuple[int, int, int, int], dim: int, dropout: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvReLU(d, dim) for d in dims)
        self.fusion_conv = ConvReLU(4 * dim, dim)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(dim, 1, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Fuse the scales and classify each pixel."""
        return self.classify(self.fuse(features))

    def classify(self, fused: Tensor) -> Tensor:
        """Return logits (b, 1, h/4, w/4) of the fused feature."""
        return self.conv_seg(self.dropout(fused))

    def fuse(self, features: Sequence[Tensor]) -> Tensor:
        """Narrow each scale, upsample to 1/4, concatenate, and fuse with a 1x1 convolution."""
        hw = features[0].shape[2:]
        parts = [
            F.interpolate(conv(x), size=hw, mode="bilinear", align_corners=False)
            for conv, x in zip(self.convs, features, strict=True)
        ]
        return self.fusion_conv(torch.cat(parts, 1))


class SimpleClick(PlainViTNetwork):
    """Plain-ViT interactive segmentation (Liu et al. 2023, Fig. 2)."""

    def __init__(self, config: SimpleClickConfig) -> None:
        super().__init__()
        self.config = config
        self.traits = config.traits()
        self.patch_embed_coords = PatchEmbed(3, config.dim, config.patch)
        self.backbone = Backbone(config)
        self.neck = Neck(config.dim, config.neck_dims)
        self.head = Head(config.neck_dims, config.head_dim, config.dropout)

    def forward(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> Output:
        """Segment views of exactly `config.input_hw`."""
        _, logits = self.decode(image, prev_mask, clicks)
        return Output(upsample(logits, self.config.input_hw))

    def decode(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> tuple[Tensor, Tensor]:
        """Return the fused feature (b, c, h/4, w/4 for patch 16) and its logits."""
        self.config.check_view(image)
        coords = coordinate_maps(prev_mask, clicks, self.config.click_radius)
        tokens = self.backbone.patch_embed(self.normalise(image)) + self.patch_embed_coords(coords)
        features = self.neck(self.backbone(tokens).permute(0, 3, 1, 2).contiguous())
        fused = self.head.fuse(features)
        return fused, self.head.classify(fused)
