"""Mix Transformer, SegFormer's encoder, with EMC-Click's side input for the first click.

Built from the paper (Xie et al., 2021; docs/PAPERS.md, EMC-Click: base network), with the names of the published files.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
MLP_RATIO = 4
MARKS = ("patch_embed1.proj.weight", "block1.0.attn.q.weight")
"""Tensors that identify the file of such a backbone."""


class OverlapPatchEmbed(nn.Module):
    """Embed overlapping patches by a strided convolution: (b, c, h, w) -> tokens (b, n, dim) and (rows, columns)."""

    def __init__(self, channels: int, dim: int, side: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, side, stride, padding=side // 2)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:  # noqa: D102
        x = self.proj(x)
        return self.norm(x.flatten(2).transpose(1, 2)), (x.shape[2], x.shape[3])


class ReducedAttention(nn.Module):
    """Self-attention whose keys and values come from a grid that is `reduction` times coarser."""

    def __init__(self, dim: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)
        if reduction > 1:
            self.sr = nn.Conv2d(dim, dim, reduction, reduction)
            self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, grid_hw: tuple[int, int]) -> Tensor:  # noqa: D102
        b, n, dim = x.shape
        q = self.q(x).view(b, n, self.heads, -1).transpose(1, 2)
        if self.reduction > 1:
            x = self.norm(self.sr(x.transpose(1, 2).view(b, dim, *grid_hw)).flatten(2).transpose(1, 2))
        k, v = self.kv(x).view(b, x.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, dim))


class DepthwiseConv(nn.Module):
    """Depthwise 3x3 convolution over tokens laid out as a grid."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)

    def forward(self, x: Tensor, grid_hw: tuple[int, int]) -> Tensor:  # noqa: D102
        return self.dwconv(x.transpose(1, 2).view(x.shape[0], -1, *grid_hw)).flatten(2).transpose(1, 2)


class MixMlp(nn.Module):
    """MLP with a depthwise convolution between its linear maps, from which the encoder learns positions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, MLP_RATIO * dim)
        self.dwconv = DepthwiseConv(MLP_RATIO * dim)
        self.fc2 = nn.Linear(MLP_RATIO * dim, dim)

    def forward(self, x: Tensor, grid_hw: tuple[int, int]) -> Tensor:  # noqa: D102
        return self.fc2(F.gelu(self.dwconv(self.fc1(x), grid_hw)))


class Block(nn.Module):
    """Pre-norm attention and MLP; in training, each is skipped per sample with probability `drop_path`."""

    def __init__(self, dim: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        from timm.layers.drop import DropPath

        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = ReducedAttention(dim, heads, reduction)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = MixMlp(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, grid_hw: tuple[int, int]) -> Tensor:  # noqa: D102
        x = x + self.drop_path(self.attn(self.norm1(x), grid_hw))
        return x + self.drop_path(self.mlp(self.norm2(x), grid_hw))


class MixTransformer(nn.Module):
    """Four stages at strides 4, 8, 16, 32; `forward` returns their maps."""

    def __init__(self, dims: tuple[int, ...], depths: tuple[int, ...], drop_path: float, side_channels: int) -> None:
        super().__init__()
        rates = [drop_path * number / max(1, sum(depths) - 1) for number in range(sum(depths))]
        done = 0
        for stage, (dim, depth) in enumerate(zip(dims, depths, strict=True), start=1):
            channels, side, stride = (3, 7, 4) if stage == 1 else (dims[stage - 2], 3, 2)
            setattr(self, f"patch_embed{stage}", OverlapPatchEmbed(channels, dim, side, stride))
            blocks = (
                Block(dim, HEADS[stage - 1], REDUCTIONS[stage - 1], rates[done + number]) for number in range(depth)
            )
            setattr(self, f"block{stage}", nn.ModuleList(blocks))
            setattr(self, f"norm{stage}", nn.LayerNorm(dim, eps=1e-6))
            done += depth
        self.patch_embed_side1 = OverlapPatchEmbed(side_channels, dims[0], 7, 4)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.normal_(
                    module.weight,
                    std=math.sqrt(2 * module.groups / (module.weight[0, 0].numel() * module.out_channels)),
                )
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def blocks(self) -> list[nn.Module]:
        """List the blocks of all stages."""
        return [block for stage in (1, 2, 3, 4) for block in self.get_submodule(f"block{stage}").children()]

    def first_stage(self, image: Tensor) -> Tensor:
        """Run stage 1, which needs no click, on a normalised image; returns its map (b, dim, h/4, w/4)."""
        return self._stage(1, image)

    def forward(self, first: Tensor, side: Tensor) -> list[Tensor]:
        """Run stages 2-4 on the map of `first_stage` and the click maps `side` (b, side channels, h, w).

        The clicks are added after stage 1 is recorded, so the first map of the result does not contain them.
        """
        tokens, grid_hw = self.patch_embed_side1(side)
        maps, x = [first], first + tokens.transpose(1, 2).view(first.shape[0], -1, *grid_hw)
        for stage in (2, 3, 4):
            x = self._stage(stage, x)
            maps.append(x)
        return maps

    def _stage(self, number: int, x: Tensor) -> Tensor:
        embed, blocks, norm = (self.get_submodule(f"{name}{number}") for name in ("patch_embed", "block", "norm"))
        tokens, grid_hw = embed(x)
        assert isinstance(blocks, nn.ModuleList)
        for block in blocks:
            tokens = block(tokens, grid_hw)
        return norm(tokens).transpose(1, 2).reshape(x.shape[0], -1, *grid_hw)


class Linear(nn.Module):
    """A linear map of channels, under its published name."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim_in, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, dim_out, h, w)."""
        return self.proj(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNorm(nn.Module):
    """The decoder's fusion: 1x1 convolution, batch normalisation and ReLU."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim_in, dim_out, 1, bias=False)
        self.bn = nn.BatchNorm2d(dim_out)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return F.relu(self.bn(self.conv(x)), inplace=True)


class SegFormerHead(nn.Module):
    """All-MLP decoder; `forward` returns the feature (b, dim, h/4, w/4) and its logits (b, 1, h/4, w/4)."""

    def __init__(self, dims: tuple[int, ...], dim: int) -> None:
        super().__init__()
        for level, channels in enumerate(dims, start=1):
            setattr(self, f"linear_c{level}", Linear(channels, dim))
        self.linear_fuse = ConvNorm(len(dims) * dim, dim)
        self.dropout = nn.Dropout2d(0.1)
        self.linear_pred = nn.Conv2d(dim, 1, 1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Fuse four scales and classify each pixel."""
        feature = self.dropout(self.fuse(maps))
        return feature, self.linear_pred(feature)

    def fuse(self, maps: Sequence[Tensor]) -> Tensor:
        """Map each level linearly, upsample, concatenate from the coarsest on, and fuse with a 1x1 convolution."""
        hw = maps[0].shape[2:]
        parts = [
            F.interpolate(self.linear(level)(x), size=hw, mode="bilinear", align_corners=False)
            for level, x in enumerate(maps, start=1)
        ]
        return self.linear_fuse(torch.cat(parts[::-1], 1))

    def linear(self, level: int) -> Linear:
        """Return the linear map of a level, numbered from 1."""
        linear = self.get_submodule(f"linear_c{level}")
        assert isinstance(linear, Linear)
        return linear
