"""iCMFormer on Swin: three streams through the first two stages, namely image, clicks and their sum.

See docs/PAPERS.md, iCMFormer: networks. Layout and names follow the public code. In that code, and therefore in its
weights, the previous mask and the clicks go through the *image's* patch embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.click_maps import ClickBatch, coordinate_maps
from models.networks.base import Network, Output, Started, Traits, upsample
from models.networks.cross_attention import CrossBlock
from models.networks.pretrained import copy_tensors
from models.networks.simpleclick import Head

MARKS = ("patch_embed.proj.weight", "layers.0.blocks.0.attn.qkv.weight")
"""Tensors that identify the file of such a backbone."""


@dataclass(frozen=True, kw_only=True)
class ICMFormerSwinConfig:
    """Shape of an iCMFormer network on Swin; the defaults are Swin-B's (22k, 384)."""

    dim: int = 128
    depths: tuple[int, int, int, int] = (2, 2, 18, 2)
    heads: tuple[int, int, int, int] = (4, 8, 16, 32)
    window: int = 12
    patch: int = 4
    cross_depth: int = 8
    cross_heads: int = 8
    head_dim: int = 256
    input_hw: tuple[int, int] = (448, 448)
    """Height and width of views in pixels; the network takes any size. The published ones were trained at 384 and
    evaluated at 448."""
    click_radius: float = 5.0
    dropout: float = 0.1
    drop_path: float = 0.2

    def build(self) -> "ICMFormerSwin":
        """Build the network with fresh weights."""
        return ICMFormerSwin(self)


class ICMFormerSwin(Network):
    """iCMFormer (Fig. 2), with a Swin backbone."""

    entry_points = (*Network.entry_points, "encode_image", "segment")

    def __init__(self, config: ICMFormerSwinConfig) -> None:
        super().__init__()
        from models.networks.swin import Swin, draw_

        self.config = config
        self.traits = Traits(size=config.input_hw, zoom_size=config.input_hw, starts=True)
        self.backbone = Swin(
            config.dim, config.depths, config.heads, config.window, config.patch, drop_path=config.drop_path
        )
        blocks2 = nn.ModuleList(
            CrossBlock(4 * config.dim, config.cross_heads, eps=1e-5) for _ in range(config.cross_depth)
        )
        for module in blocks2.modules():
            if isinstance(module, nn.Linear):
                draw_(module)
        self.backbone.add_module("blocks2", blocks2)
        dims = (config.dim, 2 * config.dim, 4 * config.dim, 8 * config.dim)
        self.head = Head(dims, config.head_dim, config.dropout)

    def forward(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch, started: Started | None = None) -> Output:
        """Segment views of any size."""
        patches, tokens = self.start(image) if started is None else started
        return self.segment((patches, tokens), prev_mask, clicks)

    def blocks(self) -> Sequence[nn.Module]:
        """List the blocks of all stages, and the cross blocks."""
        return (*self.backbone.blocks(), *self.backbone.get_submodule("blocks2").children())

    def start(self, image: Tensor) -> Started:
        """Run the image's stream."""
        return self.encode_image(image)

    def encode_image(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the click-independent features of the image: patches (b, h/4, w/4, c) and (b, h/16, w/16, 4c)."""
        patches = self.backbone.patch_embed(self.normalise(image))
        first, second = self.backbone.stage(0), self.backbone.stage(1)
        return patches, second.merge(second(first.merge(first(patches))))

    def segment(self, encoded: tuple[Tensor, Tensor], prev_mask: Tensor, clicks: ClickBatch) -> Output:
        """Run the rest of the network on the result of `encode_image`."""
        patches, image_tokens = encoded
        coords = self.backbone.patch_embed(coordinate_maps(prev_mask, clicks, self.config.click_radius))
        # Clicks and the sum run as one batch; the sum is used only for the pyramid's first two levels. They are
        # separated by unflatten, because chunk would fix the batch of an exported graph.
        x = self.backbone.stage(0)(torch.cat([coords, patches + coords]))
        levels = [self.backbone.level(0, x.unflatten(0, (2, -1))[1])]
        x = self.backbone.stage(1)(self.backbone.stage(0).merge(x))
        of_clicks, of_sum = x.unflatten(0, (2, -1))
        levels.append(self.backbone.level(1, of_sum))

        hw = tuple(image_tokens.shape[1:3])
        click_tokens = self.backbone.stage(1).merge(of_clicks).flatten(1, 2)
        image_tokens = image_tokens.flatten(1, 2)
        for block in self.backbone.get_submodule("blocks2").children():
            click_tokens = block(click_tokens, image_tokens)
        x = self.backbone.stage(2)((image_tokens + click_tokens).unflatten(1, hw))
        levels.append(self.backbone.level(2, x))
        x = self.backbone.stage(3)(self.backbone.stage(2).merge(x))
        levels.append(self.backbone.level(3, x))
        return Output(upsample(self.head(levels), (prev_mask.shape[2], prev_mask.shape[3])))

    def load_backbone(self, state: dict[str, Tensor]) -> list[str]:
        """Load a Swin classifier of timm or of its authors; returns the names of the tensors that were set.

        The norms of the levels and the cross blocks, which such files do not contain, keep their weights. Raises
        InputError, before anything is copied, if tensors are missing or have another shape.
        """
        from models.networks.swin import swin_names

        return copy_tensors(self, state, swin_names(self.backbone, state), what="Swin")
