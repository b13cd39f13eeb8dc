"""Shared parts of plain-ViT networks: patches, positions, windowed blocks, and loading of pre-trained weights."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.errors import InputError
from models.networks.base import Network, Traits
from models.networks.pretrained import copy_tensors

WINDOW_PIXELS = 224
MARKS = ("patch_embed.proj.weight", "blocks.0.attn.qkv.weight")
"""Tensors that identify the file of such a backbone."""


@dataclass(frozen=True, kw_only=True)
class PlainViTConfig:
    """Shape of a network around a plain ViT; the defaults are ViT-B's."""

    dim: int
    depth: int
    heads: int
    neck_dims: tuple[int, int, int, int]
    patch: int = 16
    head_dim: int = 256
    input_hw: tuple[int, int] = (448, 448)
    """Height and width of views in pixels; the positional embedding of weights for another size is resized."""
    click_radius: float = 5.0
    dropout: float = 0.1

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Height and width of a view in tokens."""
        return self.input_hw[0] // self.patch, self.input_hw[1] // self.patch

    def traits(self) -> Traits:
        """Return the traits of a network for views of `input_hw`; raises InputError if it does not fit the patches."""
        if any(side % (2 * self.patch) for side in self.input_hw):
            raise InputError(f"input_hw {self.input_hw}: expected multiples of {2 * self.patch} pixels")
        return Traits(size=self.input_hw, zoom_size=self.input_hw)

    def check_view(self, image: Tensor) -> tuple[int, int]:
        """Return the size (h, w) of a view (b, 3, h, w); raises InputError unless it is `input_hw`."""
        hw = (image.shape[2], image.shape[3])
        if hw != self.input_hw:
            raise InputError(f"the view is {hw}: this network takes only {self.input_hw}")
        return hw


class PatchEmbed(nn.Module):
    """Cut maps into patches and project them: (b, c, h, w) -> (b, grid h, grid w, dim)."""

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch, patch)
        nn.init.xavier_uniform_(self.proj.weight.view(dim, -1))  # a linear map of a flattened patch
        if self.proj.bias is not None:
            nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.proj(x).permute(0, 2, 3, 1)


def window_size(grid: int, window_tokens: int) -> int:
    """Return the side of attention windows on an axis of `grid` tokens; raises InputError unless it divides `grid`."""
    num = max(1, grid // window_tokens)
    if grid % num:
        raise InputError(
            f"a grid of {grid} tokens does not divide into {num} attention windows: set input_hw to multiples of "
            f"{WINDOW_PIXELS} pixels (224, 448, 672, ...)"
        )
    return grid // num


def to_windows(x: Tensor, window_hw: tuple[int, int]) -> Tensor:
    """Cut a grid into windows: (b, gh, gw, c) -> (b * windows, window tokens, c), both row-major."""
    b, gh, gw, c = x.shape
    wh, ww = window_hw
    return x.view(b, gh // wh, wh, gw // ww, ww, c).transpose(2, 3).reshape(-1, wh * ww, c)


def from_windows(x: Tensor, window_hw: tuple[int, int], grid_hw: tuple[int, int]) -> Tensor:
    """Join windows to a grid, as the inverse of `to_windows`."""
    (gh, gw), (wh, ww) = grid_hw, window_hw
    return x.view(-1, gh // wh, gw // ww, wh, ww, x.shape[-1]).transpose(2, 3).reshape(-1, gh, gw, x.shape[-1])


def sin_cos_grid(grid_height: int, grid_width: int, dim: int) -> Tensor:
    """Return MAE's positional embedding (1, h * w, dim): sines and cosines of the rows and the columns.

    It encodes which tokens are neighbours, so training from fresh weights leaves the all-background plateau sooner.
    """
    frequencies = 10_000 ** -(torch.arange(dim // 4) / (dim // 4))
    rows = torch.arange(grid_height)[:, None] * frequencies
    columns = torch.arange(grid_width)[:, None] * frequencies
    rows = torch.cat([rows.sin(), rows.cos()], 1)[:, None].expand(-1, grid_width, -1)
    columns = torch.cat([columns.sin(), columns.cos()], 1)[None].expand(grid_height, -1, -1)
    return torch.cat([rows, columns], 2).reshape(1, grid_height * grid_width, -1)


@torch.no_grad()
def mimetic_attention_(attention: Any, heads: int) -> None:
    """Initialise attention as in trained ViTs, where tokens attend to similar tokens (Trockman & Kolter, 2023).

    Queries times keys is about 0.7 Z + 0.7 I, values times projection about 0.4 Z - 0.4 I, with Z Gaussian of variance
    1/dim. This matters with few images and steps: a click spreads to similar neighbours from the first step on.
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


def vit_blocks(dim: int, heads: int, depth: int) -> nn.ModuleList:
    """Build pre-norm blocks as in ViT and MAE, initialised as in MAE."""
    from timm.models.vision_transformer import Block

    norm: Any = functools.partial(nn.LayerNorm, eps=1e-6)
    blocks = nn.ModuleList(Block(dim, heads, mlp_ratio=4, qkv_bias=True, norm_layer=norm) for _ in range(depth))
    xavier_(blocks)
    return blocks


def xavier_(module: nn.Module) -> None:
    """Initialise every linear map with Xavier weights and zero bias."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)


class PlainViT(nn.Module):
    """Patches, positions and blocks, of which every `period`-th attends globally; no class token, no final norm."""

    def __init__(self, config: PlainViTConfig) -> None:
        super().__init__()
        height, width = config.grid_hw
        self.patch_embed = PatchEmbed(3, config.dim, config.patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, height * width, config.dim))
        self.blocks = vit_blocks(config.dim, config.heads, config.depth)
        self.period = 6 if config.depth == 12 else config.depth // 4
        tokens = WINDOW_PIXELS // config.patch
        self.window_hw = (window_size(height, tokens), window_size(width, tokens))
        with torch.no_grad():
            self.pos_embed.copy_(sin_cos_grid(height, width, config.dim))

    def add_positions(self, tokens: Tensor) -> Tensor:
        """Add the positional embedding to tokens (b, gh, gw, dim)."""
        return tokens + self.pos_embed.view(1, *tokens.shape[1:3], -1)

    def run(self, blocks: nn.ModuleList, x: Tensor, start: int = 1) -> Tensor:
        """Run blocks, numbered from `start`, on (b, gh, gw, dim): in windows, except every `period`-th block."""
        grid_hw = x.shape[1], x.shape[2]
        windowed = False
        for number, block in enumerate(blocks, start):
            if number % self.period:
                if not windowed:
                    x, windowed = to_windows(x, self.window_hw), True
                x = block(x)
            else:
                if windowed:
                    x, windowed = from_windows(x, self.window_hw, grid_hw), False
                x = block(x.flatten(1, 2)).view(-1, *grid_hw, x.shape[-1])
        return from_windows(x, self.window_hw, grid_hw) if windowed else x


def resize_pos_embed(pos_embed: Tensor, grid_hw: tuple[int, ...]) -> Tensor:
    """Resize a positional embedding (1, g * g, dim) to another grid: bicubic, half-pixel centres, no antialiasing."""
    side = round(pos_embed.shape[1] ** 0.5)
    if side * side != pos_embed.shape[1]:
        raise InputError(
            f"the positional embedding has {pos_embed.shape[1]} tokens and cannot be resized: expected a square grid"
        )
    grid = pos_embed.view(1, side, side, -1).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, size=tuple(grid_hw), mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1).flatten(1, 2)


def fit_positions(state: dict[str, Tensor], key: str, grid_hw: tuple[int, int]) -> dict[str, Tensor]:
    """Resize the tensor `key`, if it exists, from another (square) grid."""
    if key in state and state[key].dim() == 3 and state[key].shape[1] not in (0, grid_hw[0] * grid_hw[1]):
        state = {**state, key: resize_pos_embed(state[key], grid_hw)}
    return state


def vit_names(backbone: PlainViT, prefix: str = "backbone.") -> dict[str, str]:
    """Map the names of our tensors, with `prefix`, to their names in a timm or MAE ViT, for all that it contains."""
    known = ("patch_embed.", "pos_embed", "blocks.")
    return {prefix + name: name for name in backbone.state_dict() if name.startswith(known)}


def load_vit(
    network: nn.Module, state: dict[str, Tensor], names: dict[str, str], grid_hw: tuple[int, int]
) -> list[str]:
    """Copy a timm or MAE ViT's tensors into `network` (`names`: ours -> theirs); returns our names.

    The positional embedding loses the slot of its class token and is resized. Other tensors of the file (class token,
    final norm, head) are ignored. Raises InputError, before anything is copied, if tensors are missing or have another
    shape.
    """
    key = "pos_embed"
    if key in state and state[key].dim() == 3:
        num = state[key].shape[1]
        side = round((num - 1) ** 0.5)
        if num > 1 and side * side == num - 1:
            state = {**state, key: state[key][:, 1:]}
        state = fit_positions(state, key, grid_hw)
    return copy_tensors(network, state, names, what="ViT")


class PlainViTNetwork(Network):
    """Base of networks around a plain ViT (`backbone`), which can load pre-trained weights."""

    backbone: Any
    patch_embed_coords: PatchEmbed

    def fit_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Resize a positional embedding that was trained for another (square) grid."""
        return fit_positions(state, "backbone.pos_embed", self.config.grid_hw)

    def blocks(self) -> Sequence[nn.Module]:
        """List the ViT's blocks."""
        return self.backbone.blocks

    def positions(self) -> Sequence[nn.Parameter]:
        """List that of the ViT."""
        return (self.backbone.pos_embed,)

    def click_embedding(self) -> Sequence[nn.Module]:
        """List the patch embedding of clicks and previous mask."""
        return (self.patch_embed_coords,)

    def layers(self) -> Sequence[tuple[str, ...]]:
        """List patches and positions, the blocks, and the other parts of the ViT."""
        blocks = [(f"backbone.blocks.{number}.",) for number in range(len(self.backbone.blocks))]
        return [("backbone.patch_embed.", "backbone.pos_embed"), *blocks, ("backbone.",)]

    def pretrained_names(self) -> dict[str, str]:
        """Map the names of our tensors to their names in a timm or MAE ViT, for all that it contains."""
        return vit_names(self.backbone)

    def load_backbone(self, state: dict[str, Tensor]) -> list[str]:
        """Load a timm or MAE ViT; returns the names of the tensors that were set.

        Parts that such files do not contain (embedding of clicks and masks, cross-attention, fusion, decoder) keep
        their weights. Raises InputError, before anything is copied, if tensors are missing or have another shape.
        """
        return load_vit(self, state, self.pretrained_names(), self.config.grid_hw)
