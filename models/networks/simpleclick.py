"""SimpleClick: a plain ViT that adds the clicks and the previous mask to its tokens (Liu et al., ICCV 2023).

Layout and names after the paper and the published weights; what those files carry but no forward uses (class token,
its positional embedding, classification head, up-convolutions) is not built.
"""

import functools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import models.torchvision_ops  # noqa: F401  (before timm)
from models.click_maps import ClickBatch, disk_maps
from models.errors import InputError
from models.networks.base import Network, Output, Traits, upsample

WINDOW_PIXELS = 224


@dataclass(frozen=True, kw_only=True)
class SimpleClickConfig:
    """Shape of a SimpleClick network; the defaults of all but the first four are those of ViT-B and ViT-xTiny."""

    dim: int
    depth: int
    heads: int
    neck_dims: tuple[int, int, int, int]
    patch: int = 16
    head_dim: int = 256
    input_hw: tuple[int, int] = (448, 448)
    """Size of the views it takes; another size than the weights' own resizes the positional embedding."""
    click_radius: float = 5.0
    dropout: float = 0.1
    mimetic_start: bool = False
    """Start fresh attention as trained attention looks like; for small networks that start from nothing."""

    def build(self) -> "SimpleClick":
        """Build the network with fresh weights."""
        return SimpleClick(self)


class PatchEmbed(nn.Module):
    """Cut into patches and project: (b, c, h, w) -> (b, grid h, grid w, dim)."""

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch, patch)
        nn.init.xavier_uniform_(self.proj.weight.view(dim, -1))  # a linear map of a flattened patch
        if self.proj.bias is not None:
            nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.proj(x).permute(0, 2, 3, 1)


def window_size(grid: int, window_tokens: int) -> int:
    """Side of an attention window on an axis of `grid` tokens (spec 2.2); raises InputError unless it divides."""
    num = max(1, grid // window_tokens)
    if grid % num:
        raise InputError(
            f"a grid of {grid} tokens does not divide into {num} attention windows: take an input size that is a "
            f"multiple of {WINDOW_PIXELS} pixels (224, 448, 672, ...)"
        )
    return grid // num


def to_windows(x: Tensor, window_hw: tuple[int, int]) -> Tensor:
    """(b, gh, gw, c) -> (b * windows, window tokens, c), both row-major."""
    b, gh, gw, c = x.shape
    wh, ww = window_hw
    return x.view(b, gh // wh, wh, gw // ww, ww, c).transpose(2, 3).reshape(-1, wh * ww, c)


def from_windows(x: Tensor, window_hw: tuple[int, int], grid_hw: tuple[int, int]) -> Tensor:
    """Undo `to_windows`."""
    (gh, gw), (wh, ww) = grid_hw, window_hw
    return x.view(-1, gh // wh, gw // ww, wh, ww, x.shape[-1]).transpose(2, 3).reshape(-1, gh, gw, x.shape[-1])


def sin_cos_grid(grid_height: int, grid_width: int, dim: int) -> Tensor:
    """Sines and cosines of the rows and the columns, (1, h * w, dim): MAE's positional embedding.

    A start that knows which tokens are neighbours: from fresh weights it leaves the all-background plateau sooner.
    """
    frequencies = 10_000 ** -(torch.arange(dim // 4) / (dim // 4))
    rows = torch.arange(grid_height)[:, None] * frequencies
    columns = torch.arange(grid_width)[:, None] * frequencies
    rows = torch.cat([rows.sin(), rows.cos()], 1)[:, None].expand(-1, grid_width, -1)
    columns = torch.cat([columns.sin(), columns.cos()], 1)[None].expand(grid_height, -1, -1)
    return torch.cat([rows, columns], 2).reshape(1, grid_height * grid_width, -1)


@torch.no_grad()
def mimetic_attention_(attention: Any, heads: int) -> None:
    """Start attention as it ends in trained ViTs: tokens look at tokens like themselves (Trockman & Kolter, 2023).

    Queries times keys is about 0.7 Z + 0.7 I, values times projection about 0.4 Z - 0.4 I, with Z Gaussian of variance
    1/dim. With few images and steps this matters: a click's mark spreads to similar neighbours from the first step on.
    """
    qkv, proj = attention.qkv.weight, attention.proj.weight
    dim = proj.shape[0]
    head_dim = dim // heads
    eye = torch.eye(dim)
    for head in range(heads):
        u, s, vt = torch.linalg.svd(0.7 * torch.randn(dim, dim) / dim**0.5 + 0.7 * eye)
        root = s[:head_dim].sqrt()
        rows = slice(head * head_dim, (head + 1) * head_dim)
        qkv[:dim][rows].copy_((u[:, :head_dim] * root).T)
        qkv[dim : 2 * dim][rows].copy_(root[:, None] * vt[:head_dim])
    u, s, vt = torch.linalg.svd(0.4 * torch.randn(dim, dim) / dim**0.5 - 0.4 * eye)
    qkv[2 * dim :].copy_(s.sqrt()[:, None] * vt)
    proj.copy_(u * s.sqrt())


class Backbone(nn.Module):
    """The ViT: most blocks attend inside windows, every `period`-th one globally; no class token, no final norm."""

    def __init__(self, config: SimpleClickConfig) -> None:
        super().__init__()
        from timm.models.vision_transformer import Block

        grid = [side // config.patch for side in config.input_hw]
        self.patch_embed = PatchEmbed(3, config.dim, config.patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, grid[0] * grid[1], config.dim))
        norm: Any = functools.partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, mlp_ratio=4, qkv_bias=True, norm_layer=norm) for _ in range(config.depth)
        )
        self.period = 6 if config.depth == 12 else config.depth // 4
        tokens = WINDOW_PIXELS // config.patch
        self.window_hw = (window_size(grid[0], tokens), window_size(grid[1], tokens))
        with torch.no_grad():
            self.pos_embed.copy_(sin_cos_grid(grid[0], grid[1], config.dim))
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        if config.mimetic_start:
            for block in self.blocks:
                mimetic_attention_(block.attn, config.heads)

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, gh, gw, dim) -> the same shape."""
        grid_hw = tokens.shape[1], tokens.shape[2]
        x = tokens + self.pos_embed.view(1, *grid_hw, -1)
        windowed = False
        for number, block in enumerate(self.blocks, start=1):
            if number % self.period:
                if not windowed:
                    x, windowed = to_windows(x, self.window_hw), True
                x = block(x)
            else:
                if windowed:
                    x, windowed = from_windows(x, self.window_hw, grid_hw), False
                x = block(x.flatten(1, 2)).view(-1, *grid_hw, x.shape[-1])
        return from_windows(x, self.window_hw, grid_hw) if windowed else x


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(1, channels)


class Neck(nn.Module):
    """Four scales (1/4, 1/8, 1/16, 1/32) from the last block's tokens."""

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
    """1x1 convolution; the ReLU is the caller's, where a linear map may stand in between."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim_in, dim_out, 1)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return F.relu(self.conv(x))


class Head(nn.Module):
    """All-MLP decoder (SegFormer's) over the four scales: logits at 1/4."""

    def __init__(self, dims: tuple[int, int, int, int], dim: int, dropout: float) -> None:
        super().__init__()
        self.convs = nn.ModuleList(ConvReLU(d, dim) for d in dims)
        self.fusion_conv = ConvReLU(4 * dim, dim)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_seg = nn.Conv2d(dim, 1, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Fuse and classify."""
        return self.classify(self.fuse(features))

    def classify(self, fused: Tensor) -> Tensor:
        """Logits (b, 1, h/4, w/4) of the fused feature."""
        return self.conv_seg(self.dropout(fused))

    def fuse(self, features: list[Tensor]) -> Tensor:
        """Bring four scales together at 1/4.

        The paper upsamples, concatenates, then fuses by a 1x1 convolution. A 1x1 convolution commutes with bilinear
        upsampling, so each level meets its slice of the fusion weights at its own size and the sum is upsampled: the
        same function (to float rounding) at about a third of the work.
        """
        slices = self.fusion_conv.conv.weight.chunk(4, dim=1)
        fused = F.conv2d(self.convs[0](features[0]), slices[0], self.fusion_conv.conv.bias)
        for level in (1, 2, 3):
            part = F.conv2d(self.convs[level](features[level]), slices[level])
            fused = fused + F.interpolate(part, size=fused.shape[2:], mode="bilinear", align_corners=False)
        return F.relu(fused)


class SimpleClick(Network):
    """Plain-ViT interactive segmentation (Liu et al. 2023, Fig. 2)."""

    def __init__(self, config: SimpleClickConfig) -> None:
        super().__init__()
        if any(side % (2 * config.patch) for side in config.input_hw):
            raise InputError(f"input_hw {config.input_hw}: expected multiples of {2 * config.patch} pixels")
        self.config = config
        self.traits = Traits(size=config.input_hw, zoom_size=config.input_hw)
        self.patch_embed_coords = PatchEmbed(3, config.dim, config.patch)
        self.backbone = Backbone(config)
        self.neck = Neck(config.dim, config.neck_dims)
        self.head = Head(config.neck_dims, config.head_dim, config.dropout)

    def forward(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> Output:
        """Segment views of exactly `config.input_hw`."""
        _, logits = self.decode(image, prev_mask, clicks)
        return Output(upsample(logits, (image.shape[2], image.shape[3])))

    def decode(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> tuple[Tensor, Tensor]:
        """Fused feature (b, c, h/4, w/4 for patch 16) and its logits."""
        hw = (image.shape[2], image.shape[3])
        if hw != self.config.input_hw:
            raise InputError(f"the view is {hw}: this network takes exactly {self.config.input_hw}")
        coords = torch.cat([prev_mask, disk_maps(clicks, hw, self.config.click_radius).to(prev_mask.dtype)], 1)
        tokens = self.backbone.patch_embed(self.normalise(image)) + self.patch_embed_coords(coords)
        features = self.neck(self.backbone(tokens).permute(0, 3, 1, 2).contiguous())
        fused = self.head.fuse(features)
        return fused, self.head.classify(fused)

    def fit_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Resize a positional embedding that was made for another (square) grid."""
        grid_hw = tuple(side // self.config.patch for side in self.config.input_hw)
        key = "backbone.pos_embed"
        if key in state and state[key].shape[1] != grid_hw[0] * grid_hw[1]:
            state = {**state, key: resize_pos_embed(state[key], grid_hw)}
        return state


def resize_pos_embed(pos_embed: Tensor, grid_hw: tuple[int, ...]) -> Tensor:
    """Resize (1, g * g, dim) to another grid: bicubic, align_corners False, no antialiasing (spec 2.4)."""
    side = round(pos_embed.shape[1] ** 0.5)
    if side * side != pos_embed.shape[1]:
        raise InputError(f"a positional embedding of {pos_embed.shape[1]} tokens is not square: cannot resize it")
    grid = pos_embed.view(1, side, side, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, size=tuple(grid_hw), mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).flatten(1, 2)
