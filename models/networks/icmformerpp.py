"""iCMFormer++: find all objects like a finished one (the exemplar), and correct the result with clicks.

There is no public code (docs/PAPERS.md, iCMFormer++). "Paper" marks choices of the paper, "ours" choices that it leaves
open.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from models.click_maps import ClickBatch, collate_clicks, coordinate_maps, disk_maps
from models.errors import InputError
from models.exemplar import ExemplarBatch
from models.interaction import Clicks
from models.networks.base import Output, Started, upsample
from models.networks.blocks import outermost, residual
from models.networks.cross_attention import GuidedCrossBlock
from models.networks.exemplar_guide import ExemplarGuide, GuideBackbone
from models.networks.plain_vit import (
    PatchEmbed,
    PlainViT,
    PlainViTConfig,
    PlainViTNetwork,
    vit_blocks,
    xavier_,
)
from models.networks.simpleclick import Head, Neck
from models.networks.stream_fusion import ChannelFusion, SelfAttentionFusion, SumFusion
from models.records import check_all


@dataclass(frozen=True, kw_only=True)
class ICMFormerPPConfig(PlainViTConfig):
    """Shape of an iCMFormer++ network; the switches are the paper's ablations."""

    two_stream: bool = True
    """Use two streams; False: add the exemplar's maps to the image and the recall's maps in one stream (ours)."""
    cross_attention: bool = True
    """Let the recall stream attend to the exemplar stream."""
    cross_depth: int = 3
    cross_dropout: float = 0.1
    fusion: Literal["channel", "self_attention", "none"] = "channel"
    exemplar_module: bool = True
    """Guide the queries to places that look like the exemplar (exemplar-informed module)."""
    exemplar_backbone: GuideBackbone = "resnet18"
    crop_scales: tuple[float, ...] = (0.8, 1.0, 1.2)
    """Sizes of the exemplar's crops, as multiples of its bounding box."""
    crop_size: int = 128
    exemplar_image: Literal["full", "masked"] = "full"
    """Image in the exemplar stream: full, or masked by the exemplar's mask."""
    exemplar_mask: bool = True
    """Show the exemplar's mask to the network."""
    exemplar_positive: Literal["all", "first", "none"] = "all"
    exemplar_negative: Literal["true", "pseudo_and_true", "none"] = "true"

    def build(self) -> "ICMFormerPP":
        """Build the network with fresh weights; raises InputError for switches that contradict each other."""
        self.check()
        return ICMFormerPP(self)

    def check(self) -> None:
        """Raise InputError for switches that are unknown or contradict each other."""
        check_all(self)
        if not self.two_stream and (self.cross_attention or self.fusion != "none"):
            raise InputError(
                "two_stream=False leaves one stream, so there is nothing to attend to or to fuse: "
                "set cross_attention=False, fusion='none' and exemplar_module=False as well"
            )
        if self.exemplar_module and not self.cross_attention:
            raise InputError(
                "the exemplar-informed module guides the queries of the cross-attention: "
                "set exemplar_module=False if cross_attention=False"
            )
        if self.exemplar_module and not self.exemplar_mask:
            raise InputError(
                "the exemplar-informed module crops the exemplar by its mask: "
                "set exemplar_module=False if exemplar_mask=False"
            )


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """Features of the image alone: patches (b, gh, gw, dim), and features for the guide (b, dim, h/32, w/32)."""

    patches: Tensor
    features: Tensor | None


@dataclass(frozen=True, eq=False)
class EncodedExemplar:
    """Click-independent features: the exemplar's tokens and its guide for the queries, (b, gh, gw, dim) each.

    In a network with one stream, the tokens are those of the exemplar's maps alone.
    """

    tokens: Tensor
    guide: Tensor | None


class Backbone(PlainViT):
    """The ViT's first half for both streams, its second half for recall, and another second half for the exemplar.

    Paper: two streams with separate self-attention before the cross-attention, and a shared first half as in iCMFormer.
    Ours: the position of the split, a second half that is not shared and runs before the cross-attention, and global
    cross-attention.
    """

    def __init__(self, config: ICMFormerPPConfig) -> None:
        super().__init__(config)
        self.num_first = config.depth // 2
        self.exemplar_blocks: nn.ModuleList | None = None
        if config.two_stream:
            self.exemplar_blocks = vit_blocks(config.dim, config.heads, config.depth - self.num_first)
        self.cross_blocks: nn.ModuleList | None = None
        if config.cross_attention:
            self.cross_blocks = nn.ModuleList(
                GuidedCrossBlock(config.dim, config.heads, config.cross_dropout) for _ in range(config.cross_depth)
            )
            xavier_(self.cross_blocks)

    def recall(self, tokens: Tensor) -> Tensor:
        """Run the recall stream: (b, gh, gw, dim) -> the same shape."""
        return self.run(self.blocks, tokens)

    def exemplar(self, tokens: Tensor) -> Tensor:
        """Run the exemplar stream: (b, gh, gw, dim) -> the same shape."""
        assert self.exemplar_blocks is not None
        shared = self.run(self.blocks[: self.num_first], tokens)
        return self.run(self.exemplar_blocks, shared, start=self.num_first + 1)

    def cross(self, recall: Tensor, exemplar: Tensor, guide: Tensor | None) -> Tensor:
        """Let recall attend to the exemplar, if there is cross-attention; all inputs are (b, gh, gw, dim)."""
        x, exemplar = recall.flatten(1, 2), exemplar.flatten(1, 2)
        guide = None if guide is None else guide.flatten(1, 2)
        for block in self.cross_blocks or ():
            x = block(x, exemplar, guide)
        return x.view_as(recall)


def no_exemplar(image: Tensor) -> ExemplarBatch:
    """Return an exemplar with an empty mask and no clicks for each view."""
    none = collate_clicks([Clicks.none()] * len(image)).to(image.device)
    return ExemplarBatch(image.new_zeros(len(image), 1, *image.shape[2:]), none, none)


class ICMFormerPP(PlainViTNetwork):
    """iCMFormer++: a recall stream (previous mask, clicks) and an exemplar stream (its mask and clicks).

    Paper: the streams and their inputs, the exemplar-informed module, the cross-attention, the channel fusion, the
    head. Ours: three patch embeddings and one positional embedding, and addition of image and maps.
    """

    entry_points = (*PlainViTNetwork.entry_points, "encode_image", "encode_exemplar", "segment")

    def __init__(self, config: ICMFormerPPConfig) -> None:
        super().__init__()
        self.config = config
        self.traits = dataclasses.replace(config.traits(), exemplar=True, starts=True)
        self.patch_embed_coords = PatchEmbed(3, config.dim, config.patch)
        self.patch_embed_exemplar = PatchEmbed(3, config.dim, config.patch)
        self.backbone = Backbone(config)
        self.guide: ExemplarGuide | None = None
        if config.exemplar_module:
            self.guide = ExemplarGuide(config.dim, config.exemplar_backbone, config.crop_size, config.crop_scales)
        self.fusion: nn.Module = SumFusion()
        if config.fusion == "channel":
            self.fusion = ChannelFusion(config.dim)
        elif config.fusion == "self_attention":
            self.fusion = SelfAttentionFusion(config.dim, config.heads)
        self.neck = Neck(config.dim, config.neck_dims)
        self.head = Head(config.neck_dims, config.head_dim, config.dropout)

    def forward(
        self,
        image: Tensor,
        prev_mask: Tensor,
        clicks: ClickBatch,
        exemplar: ExemplarBatch | None = None,
        started: Started | None = None,
    ) -> Output:
        """Segment views of size `config.input_hw`: the union of the exemplar (ours) and all objects like it.

        Without an exemplar, its mask is empty, it has no clicks, and the queries have no guide (ours).
        """
        patches, tokens, *guide = self.start(image, exemplar) if started is None else started
        of_exemplar = EncodedExemplar(tokens, guide[0] if guide else None)
        return self.segment(EncodedImage(patches, None), of_exemplar, prev_mask, clicks)

    def start(self, image: Tensor, exemplar: ExemplarBatch | None = None) -> Started:
        """Compute the features of image and exemplar: the exemplar's whole stream, and its guide if there is one."""
        encoded = self.encode_image(image)
        of_exemplar = self.encode_exemplar(image, encoded, exemplar)
        guide = () if of_exemplar.guide is None else (of_exemplar.guide,)
        return (encoded.patches, of_exemplar.tokens, *guide)

    def blocks(self) -> Sequence[nn.Module]:
        """List the blocks of both streams, of the cross-attention and the fusion, and of the guide."""
        backbone = self.backbone
        streams = [*backbone.blocks, *(backbone.exemplar_blocks or ()), *(backbone.cross_blocks or ())]
        fusion = self.fusion.blocks if isinstance(self.fusion, SelfAttentionFusion) else ()
        return (*streams, *fusion, *(() if self.guide is None else outermost(self.guide, residual)))

    def conditional(self) -> Sequence[nn.Module]:
        """List the guide, which views without an exemplar do not use."""
        return () if self.guide is None else (self.guide,)

    def encode_image(self, image: Tensor) -> EncodedImage:
        """Compute the features of the image alone."""
        self.config.check_view(image)
        normalised = self.normalise(image)
        patches = self.backbone.add_positions(self.backbone.patch_embed(normalised))
        return EncodedImage(patches, None if self.guide is None else self.guide.features(normalised))

    def encode_exemplar(self, image: Tensor, encoded: EncodedImage, exemplar: ExemplarBatch | None) -> EncodedExemplar:
        """Compute the features of image and exemplar, once per session, since its exemplar never changes (paper)."""
        exemplar = no_exemplar(image) if exemplar is None else exemplar
        expected = (image.shape[0], 1, *self.config.input_hw)  # not len(), which fixes the batch of an exported graph
        if exemplar.mask.shape != expected:
            raise InputError(
                f"the exemplar's mask is {tuple(exemplar.mask.shape)}: expected {expected}, one per view, of its size"
            )
        tokens, guide = self.backbone.add_positions(self.patch_embed_exemplar(self.exemplar_maps(exemplar))), None
        if self.guide is not None:
            assert encoded.features is not None
            guide = self.guide(encoded.features, self.normalise(image), exemplar.mask, self.config.grid_hw)
        if not self.config.two_stream:
            return EncodedExemplar(tokens, guide)
        patches = encoded.patches
        if self.config.exemplar_image == "masked":
            # Ours: masked pixels take the mean colour of ImageNet.
            masked = self.normalise(image) * exemplar.mask.to(image.dtype)
            patches = self.backbone.add_positions(self.backbone.patch_embed(masked))
        return EncodedExemplar(self.backbone.exemplar(patches + tokens), guide)

    def exemplar_maps(self, exemplar: ExemplarBatch) -> Tensor:
        """Return maps (b, 3, h, w) of the exemplar's mask and clicks, as far as the config includes them."""
        config, hw = self.config, self.config.input_hw
        mask = exemplar.mask.to(self.image_mean.dtype)
        empty = torch.zeros_like(mask)

        def disks(clicks: ClickBatch) -> Tensor:
            # The field determines the sign, not the flags of the clicks.
            return disk_maps(clicks, hw, config.click_radius).amax(1, keepdim=True).to(mask.dtype)

        positive = negative = empty
        if config.exemplar_positive == "all":
            positive = disks(exemplar.positive)
        elif config.exemplar_positive == "first":
            clicks = exemplar.positive
            positive = disks(dataclasses.replace(clicks, valid=clicks.valid & clicks.first))
        if config.exemplar_negative != "none":
            negative = disks(exemplar.true_negative)
            if config.exemplar_negative == "pseudo_and_true" and exemplar.pseudo_negative is not None:
                negative = torch.maximum(negative, disks(exemplar.pseudo_negative))
        return torch.cat([mask if config.exemplar_mask else empty, positive, negative], 1)

    def segment(self, image: EncodedImage, exemplar: EncodedExemplar, prev_mask: Tensor, clicks: ClickBatch) -> Output:
        """Run the rest of the network on the results of `encode_image` and `encode_exemplar`."""
        coords = self.patch_embed_coords(coordinate_maps(prev_mask, clicks, self.config.click_radius))
        tokens = image.patches + self.backbone.add_positions(coords)
        if self.config.two_stream:
            recall = self.backbone.cross(self.backbone.recall(tokens), exemplar.tokens, exemplar.guide)
            x = self.fusion(recall, exemplar.tokens)
        else:
            x = self.backbone.recall(tokens + exemplar.tokens)
        logits = self.head(self.neck(x.permute(0, 3, 1, 2).contiguous()))
        return Output(upsample(logits, self.config.input_hw))

    def pretrained_names(self) -> dict[str, str]:
        """Return the names as for a plain ViT; its second half initialises that of both streams (ours)."""
        names = super().pretrained_names()
        for name in self.backbone.state_dict():
            stem, _, rest = name.partition(".")
            if stem == "exemplar_blocks":
                number, _, tensor = rest.partition(".")
                names[f"backbone.{name}"] = f"blocks.{int(number) + self.backbone.num_first}.{tensor}"
        return names

    def load_exemplar_backbone(self, state: dict[str, Tensor]) -> list[str]:
        """Load timm's ImageNet weights into the exemplar-informed module's CNN (paper); returns the names set.

        Raises InputError if there is no such module, or if tensors are missing or have another shape.
        """
        if self.guide is None:
            raise InputError("this network has no exemplar-informed module: it was built with exemplar_module=False")
        return [f"guide.backbone.{name}" for name in self.guide.load_backbone(state)]
