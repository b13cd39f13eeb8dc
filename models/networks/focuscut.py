"""FocusCut: DeepLabV3+ on image, click maps and previous mask, for whole objects and for close-ups of their details.

Lin et al., CVPR 2022 (docs/PAPERS.md, FocusCut: network). One network takes both views: the global view (`forward`) and
the focus view, a patch around a click (`focus_view`).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.click_maps import ClickBatch, gaussian_maps
from models.geometry import ShortSide
from models.networks.base import Network, Output, Traits, upsample
from models.networks.blocks import outermost, residual
from models.networks.deeplab import ASPP, Decoder, DilatedResNet, prediction

REFERENCE_DILATIONS = (6, 12, 18)
"""Dilations of the ASPP at a reference size of 512."""


@dataclass(frozen=True, kw_only=True)
class FocusCutConfig:
    """Shape of a FocusCut network."""

    layers: tuple[int, int, int, int]
    """Number of bottlenecks in the ResNet's four stages."""
    width: int = 64
    """Channels of the ResNet's stem; the stages have 4, 8, 16 and 32 times as many."""
    head_dim: int = 256
    side_dim: int = 48
    """Channels to which the features of stride 4 are narrowed before the decoder."""
    reference_size: int = 384
    """Size of the training views, which sets the ASPP's dilations (5, 9, 14 at 384); views may have any size."""
    click_sigma: float = 10.0
    """Full width at half maximum of a click's Gaussian spot, in pixels."""
    shared_weights: bool = True
    """Use one network for both views; False: a second network for the focus view (an ablation of the paper)."""

    def build(self) -> "FocusCut":
        """Build the network with fresh weights."""
        return FocusCut(self)


class FocusCut(Network):
    """DeepLabV3+ with six input channels."""

    def __init__(self, config: FocusCutConfig) -> None:
        super().__init__()
        self.config = config
        size = ShortSide(384, truncate=True)
        self.traits = Traits(size=size, zoom_size=size, prev_mask="binary")
        first, second, third = (int(d * config.reference_size / 512 + 0.5) for d in REFERENCE_DILATIONS)
        self.backbone = DilatedResNet(6, config.layers, config.width)
        self.my_aspp = ASPP(32 * config.width, config.head_dim, (first, second, third))
        self.my_decoder = Decoder(4 * config.width, config.side_dim, config.head_dim)
        self.pred_decoder = prediction(config.head_dim)
        twin = None if config.shared_weights else FocusCut(dataclasses.replace(config, shared_weights=True))
        self.focus: FocusCut | None = twin

    def forward(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch, close_up: bool = False) -> Output:
        """Segment a view of any size; the previous mask is object where it is above 0.5."""
        if close_up and self.focus is not None:
            return self.focus(image, prev_mask, clicks)
        hw = (image.shape[2], image.shape[3])
        clicks_drawn = gaussian_maps(clicks, hw, self.config.click_sigma)
        planes = [self.normalise(image), clicks_drawn.to(image.dtype), (prev_mask > 0.5).to(image.dtype)]
        side, deep = self.backbone(torch.cat(planes, 1))
        features = self.my_decoder(self.my_aspp(deep), side)
        return Output(upsample(self.pred_decoder(features), hw))

    def focus_view(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> Output:
        """Segment a close-up; same as `forward` unless the views have separate weights."""
        return self(image, prev_mask, clicks, close_up=True)

    def blocks(self) -> Sequence[nn.Module]:
        """List the ResNet's bottlenecks, for both views if they have separate weights."""
        return outermost(self, residual)

    def conditional(self) -> Sequence[nn.Module]:
        """List everything if the views have separate weights, since a forward takes one view."""
        return () if self.focus is None else (self,)

    def load_backbone(self, state: Mapping[str, Tensor]) -> list[str]:
        """Load an ImageNet ResNet (timm's or torchvision's names); returns the names of the tensors that were set.

        The stem's filters for the image are loaded; those for clicks and previous mask keep their initial values.
        Raises InputError, before anything is loaded, if tensors do not fit.
        """
        names = [f"backbone.{name}" for name in self.backbone.load_classifier(state)]
        return names if self.focus is None else names + [f"focus.{name}" for name in self.focus.load_backbone(state)]
