"""Swin as in segmentation networks: any input size, merging at a stage's end, a norm per level (Liu et al. 2021).

It is built from timm's parts. Networks import this module only when they are built, because it imports timm.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from timm.layers.patch_embed import PatchEmbed
from timm.models.swin_transformer import PatchMerging, SwinTransformerBlock
from torch import Tensor, nn


class Block(SwinTransformerBlock):
    """timm's block, but with padding before the shift, as in segmentation networks.

    timm shifts first; the results differ if a side is not a multiple of the window. The shift's mask assumes padding
    first.
    """

    def _attn(self, x: Tensor) -> Tensor:
        height, width = x.shape[1], x.shape[2]
        window_height, window_width = self.window_size
        padded = F.pad(x, (0, 0, 0, -width % window_width, 0, -height % window_height))
        return super()._attn(padded)[:, :height, :width]


class Stage(nn.Module):
    """Blocks of one resolution and, except in the last stage, the 2 x 2 merging of patches."""

    def __init__(self, dim: int, heads: int, window: int, drop_paths: Sequence[float], merge: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(
                dim,
                input_resolution=(window, window),  # unused, since the next two arguments allow every size
                always_partition=True,
                dynamic_mask=True,
                num_heads=heads,
                window_size=window,
                shift_size=window // 2 if number % 2 else 0,
                drop_path=rate,
            )
            for number, rate in enumerate(drop_paths)
        )
        self.downsample = PatchMerging(dim) if merge else None

    def forward(self, x: Tensor) -> Tensor:
        """Run the blocks on (b, h, w, dim), without merging."""
        for block in self.blocks:
            x = block(x)
        return x

    def merge(self, x: Tensor) -> Tensor:
        """Merge patches: (b, h, w, dim) -> (b, h/2, w/2, 2 dim), with odd sides padded."""
        assert self.downsample is not None
        return self.downsample(x)


class Swin(nn.Module):
    """Patches, stages and the norms of their outputs, which the networks run in different orders."""

    def __init__(
        self, dim: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int, patch: int, drop_path: float
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(
            img_size=None, patch_size=patch, embed_dim=dim, norm_layer=nn.LayerNorm,
            output_fmt="NHWC", flatten=False, strict_img_size=False, dynamic_img_pad=True,
        )  # fmt: skip
        rates = iter([drop_path * number / max(1, sum(depths) - 1) for number in range(sum(depths))])
        self.layers = nn.ModuleList(
            Stage(
                dim << level, heads[level], window, [next(rates) for _ in range(depth)], merge=level + 1 < len(depths)
            )
            for level, depth in enumerate(depths)
        )
        for level in range(len(depths)):
            self.add_module(f"norm{level}", nn.LayerNorm(dim << level))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                draw_(module)

    def blocks(self) -> list[nn.Module]:
        """List the blocks of all stages."""
        return [block for level in range(len(self.layers)) for block in self.stage(level).blocks]

    def stage(self, level: int) -> Stage:
        """Return one stage."""
        stage = self.layers[level]
        assert isinstance(stage, Stage)
        return stage

    def level(self, level: int, x: Tensor) -> Tensor:
        """Normalise a stage's output as a level of the pyramid: (b, h, w, c) -> (b, c, h, w)."""
        return self.get_submodule(f"norm{level}")(x).permute(0, 3, 1, 2)


@torch.no_grad()
def draw_(linear: nn.Linear) -> None:
    """Initialise a linear map as in Swin."""
    nn.init.trunc_normal_(linear.weight, std=0.02)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def swin_names(backbone: Swin, state: dict[str, Tensor], prefix: str = "backbone.") -> dict[str, str]:
    """Map the names of our tensors, with `prefix`, to their names in a classifier's `state`, for all that it contains.

    timm merges at the start of a stage; the authors' files, and this module, at the end of the previous stage.
    """
    timm_layout = "layers.0.downsample.reduction.weight" not in state
    names: dict[str, str] = {}
    for name in backbone.state_dict():
        parts = name.split(".")
        if parts[0] == "layers" and parts[2] == "downsample" and timm_layout:
            parts[1] = str(int(parts[1]) + 1)
        if parts[0] in ("layers", "patch_embed"):
            names[prefix + name] = ".".join(parts)
    return names
