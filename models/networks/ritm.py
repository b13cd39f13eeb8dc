"""RITM: HRNet + OCR with the clicks and the previous mask added to its stem (Sofiiuk et al., 2021)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.click_maps import ClickBatch, disk_maps
from models.networks.base import Network, Output, Traits, upsample
from models.networks.hrnet import HRNetOCR, load_hrnet_backbone, maps_transform


@dataclass(frozen=True, kw_only=True)
class RitmConfig:
    """Shape of a RITM network."""

    width: int
    ocr_width: int
    small: bool = False
    click_radius: float = 5.0

    def build(self) -> "Ritm":
        """Build the network with fresh weights."""
        return Ritm(self)


class Ritm(Network):
    """RITM's network for views of any size, trained on crops of 320 x 480 and zoomed in to a longest side of 400."""

    def __init__(self, config: RitmConfig) -> None:
        super().__init__()
        self.config = config
        self.traits = Traits(size=None, zoom_size=400)
        self.maps_transform = maps_transform(3)
        self.feature_extractor = HRNetOCR(config.width, config.ocr_width, config.small)

    def forward(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> Output:
        """Segment views of any size."""
        hw = (image.shape[2], image.shape[3])
        coords = torch.cat([prev_mask, disk_maps(clicks, hw, self.config.click_radius).to(prev_mask.dtype)], 1)
        output = self.feature_extractor(self.normalise(image), self.maps_transform(coords))
        return Output(upsample(output.logits, hw), aux_logits=upsample(output.aux_logits, hw))

    def blocks(self) -> Sequence[nn.Module]:
        """List HRNet's blocks."""
        return self.feature_extractor.blocks()

    def pretrained_parts(self) -> Sequence[nn.Module]:
        """List HRNet without its OCR heads."""
        return self.feature_extractor.pretrained_parts()

    def float32_parts(self) -> Sequence[nn.Module]:
        """List those of HRNet."""
        return self.feature_extractor.float32_parts()

    def load_backbone(self, state: dict[str, Tensor]) -> list[str]:
        """Load an ImageNet HRNet (timm's or the authors' names); returns the names of the tensors that were set."""
        return load_hrnet_backbone(self, state, "feature_extractor.")
