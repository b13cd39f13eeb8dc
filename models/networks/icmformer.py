"""iCMFormer on a plain ViT: click tokens attend to the image's tokens before both are added (Li et al., ICCVW 2023).

Layout and names follow the public code (docs/PAPERS.md, iCMFormer: networks), without the unused tensors of its files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor, nn

from models.click_maps import ClickBatch, coordinate_maps
from models.networks.base import Output, Started, upsample
from models.networks.cross_attention import CrossBlock
from models.networks.plain_vit import (
    PatchEmbed,
    PlainViT,
    PlainViTConfig,
    PlainViTNetwork,
    from_windows,
    to_windows,
    xavier_,
)
from models.networks.simpleclick import Head, Neck


@dataclass(frozen=True, kw_only=True)
class ICMFormerConfig(PlainViTConfig):
    """Shape of an iCMFormer network on a plain ViT."""

    def build(self) -> "ICMFormer":
        """Build the network with fresh weights."""
        return ICMFormer(self)


class Backbone(PlainViT):
    """The ViT in two halves, with the cross blocks between them (`blocks2`, as in the public code)."""

    def __init__(self, config: ICMFormerConfig) -> None:
        super().__init__(config)
        self.num_first = config.depth // 2
        self.blocks2 = nn.ModuleList(
            CrossBlock(config.dim, config.heads, eps=1e-6) for _ in range(config.depth // 6 + 1)
        )
        xavier_(self.blocks2)

    def first_half(self, tokens: Tensor) -> Tensor:
        """Run one stream, image or clicks, through the shared weights: (b, gh, gw, dim) -> the same shape."""
        return self.run(self.blocks[: self.num_first], self.add_positions(tokens))

    def merge(self, image: Tensor, clicks: Tensor) -> Tensor:
        """Let the clicks attend to the image, within windows, and run the second half on the sum."""
        grid_hw = (image.shape[1], image.shape[2])
        image, clicks = to_windows(image, self.window_hw), to_windows(clicks, self.window_hw)
        for block in self.blocks2:
            clicks = block(clicks, image)
        x = from_windows(image + clicks, self.window_hw, grid_hw)
        return self.run(self.blocks[self.num_first :], x, start=self.num_first + 1)


class ICMFormer(PlainViTNetwork):
    """iCMFormer (Fig. 2), with a plain ViT."""

    entry_points = (*PlainViTNetwork.entry_points, "encode_image", "segment")

    def __init__(self, config: ICMFormerConfig) -> None:
        super().__init__()
        self.config = config
        self.traits = replace(config.traits(), starts=True)
        self.patch_embed_coords = PatchEmbed(3, config.dim, config.patch)
        self.backbone = Backbone(config)
        self.neck = Neck(config.dim, config.neck_dims)
        self.head = Head(config.neck_dims, config.head_dim, config.dropout)

    def forward(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch, started: Started | None = None) -> Output:
        """Segment views of exactly `config.input_hw`."""
        (encoded,) = self.start(image) if started is None else started
        return self.segment(encoded, prev_mask, clicks)

    def blocks(self) -> Sequence[nn.Module]:
        """List the ViT's blocks and the cross blocks."""
        return (*self.backbone.blocks, *self.backbone.blocks2)

    def start(self, image: Tensor) -> Started:
        """Run the image's stream."""
        return (self.encode_image(image),)

    def encode_image(self, image: Tensor) -> Tensor:
        """Compute the click-independent features: the image's tokens (b, gh, gw, dim) half way through the ViT."""
        self.config.check_view(image)
        return self.backbone.first_half(self.backbone.patch_embed(self.normalise(image)))

    def segment(self, encoded: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> Output:
        """Run the rest of the network on the result of `encode_image`."""
        coords = coordinate_maps(prev_mask, clicks, self.config.click_radius)
        tokens = self.backbone.merge(encoded, self.backbone.first_half(self.patch_embed_coords(coords)))
        logits = self.head(self.neck(tokens.permute(0, 3, 1, 2).contiguous()))
        return Output(upsample(logits, self.config.input_hw))
