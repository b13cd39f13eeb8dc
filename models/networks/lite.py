"""Small click networks (ours): a timm backbone encodes an image once, and SAM's decoder answers clicks at three scales.

The decoder, its tokens and its rules are SAM's (Kirillov et al. 2023), so training can start from MobileSAM's weights.
Maps of strides 8 and 4 are added in the decoder's upscaling, as in SAM 2 (Ravi et al. 2024), through convolutions that
start at zero. Frames are only as large as the view needs, so with MobileSAM's weights the masks are similar to
MobileSAM's but not equal.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor, nn

from models.errors import InputError
from models.geometry import LongSide, SizeRule
from models.networks.base import IMAGE_MEAN, IMAGE_STD, Started
from models.networks.pretrained import copy_tensors
from models.networks.sam import Sam
from models.networks.sam_decoder import MaskDecoder
from models.networks.sam_prompts import DIM, NEGATIVE, POSITIVE, PromptEncoder, Prompts
from models.resampling import Resampling

CANVAS = 1024
"""Side of MobileSAM's frame, in which positions are encoded; a smaller frame is in its upper left corner."""
SPOTS = (2.0, 8.0)
"""Standard deviations of a click's spots, in cells of 4 pixels."""
LARGEST = 10.0
"""Magnitude to which the last logits are clamped."""


@dataclass(frozen=True, kw_only=True)
class LiteConfig:
    """Shape of a small network."""

    backbone: str
    """Name of a timm model with feature maps of strides 4, 8 and 16 at least."""
    side: int = 896
    """Long side of views, in pixels."""
    mean: tuple[float, ...] = IMAGE_MEAN
    """Mean of the backbone's training pixels, RGB in 0..1."""
    std: tuple[float, ...] = IMAGE_STD
    """Standard deviation of those pixels."""

    def build(self) -> "Lite":
        """Build the network with fresh weights."""
        return Lite(self, Pyramid(self.backbone))


def around(backbone: str) -> dict[str, Any]:
    """Return the config fields for a timm backbone, with the pixel statistics that timm lists for it."""
    known = timm.get_pretrained_cfg(backbone)
    return {"backbone": backbone} | ({} if known is None else {"mean": known.mean, "std": known.std})


class Pyramid(nn.Module):
    """A backbone's maps at strides 8 and 4, and SAM's neck on the maps of stride 16 and coarser."""

    def __init__(self, backbone: str) -> None:
        super().__init__()
        try:
            self.trunk: Any = timm.create_model(backbone, features_only=True, pretrained=False)
        except (RuntimeError, AttributeError) as error:
            raise InputError(
                f"backbone {backbone!r}: expected a timm model with feature maps (see timm.list_models()): {error}"
            ) from error
        strides, widths = self.trunk.feature_info.reduction(), self.trunk.feature_info.channels()
        places = {stride: number for number, stride in enumerate(strides)}
        if not {4, 8, 16} <= set(places):
            raise InputError(f"backbone {backbone!r} has maps of strides {strides}: expected 4, 8 and 16 among them")
        if backbone.startswith("tiny_vit"):
            # The last stage keeps its size, as in MobileSAM.
            self.trunk["stages_3"].downsample.conv2.conv.stride = (1, 1)
        self.fine = [places[8], places[4]]
        self.widths = (widths[places[8]], widths[places[4]])
        self.lateral = nn.Conv2d(widths[places[16]], DIM, 1, bias=False) if len(widths) - 1 > places[16] else None
        self.middle = places[16]
        self.neck = nn.Sequential(
            nn.Conv2d(widths[-1], DIM, 1, bias=False),
            LayerNorm2d(DIM),
            nn.Conv2d(DIM, DIM, 3, padding=1, bias=False),
            LayerNorm2d(DIM),
        )
        if self.lateral is not None:
            nn.init.zeros_(self.lateral.weight)

    def forward(self, frame: Tensor) -> Started:
        """Encode frames (b, 3, h, w) to 256 channels at stride 16 and the backbone's channels at strides 8 and 4."""
        maps = self.trunk(frame)
        narrow, *rest = self.neck
        deepest = narrow(maps[-1])
        if self.lateral is not None:
            middle = maps[self.middle]
            deepest = F.interpolate(deepest, size=middle.shape[2:], mode="nearest") + self.lateral(middle)
        for layer in rest:
            deepest = layer(deepest)
        return deepest, *(maps[number] for number in self.fine)


def spots(prompts: Prompts, hw: tuple[int, int]) -> Tensor:
    """Draw clicks at stride 4 as maps (b, 4, h, w) in 0..1: small and wide spots of each sign, positive first."""
    device = prompts.xy.device
    ys, xs = (torch.arange(num, device=device) for num in hw)
    # A pixel's coordinate is its index, so the centre of a cell of 4 pixels is at 1.5.
    places = (prompts.xy.float() - 1.5) / 4
    maps = []
    for kind in (POSITIVE, NEGATIVE):
        counts = (prompts.labels == kind) & prompts.counts
        for reach in SPOTS:
            along_y, along_x = (
                torch.exp(-0.5 * ((places[..., axis, None] - cells) / reach) ** 2) for axis, cells in ((1, ys), (0, xs))
            )
            drawn = (along_y * counts[..., None])[..., None] * along_x[..., None, :]
            maps.append(drawn.amax(1))
    return torch.stack(maps, dim=1)


class Details(nn.Module):
    """Change the features from which masks are made, near clicks; with fresh weights the change is zero.

    SAM's clicks are tokens, which carry little information about single cells. This module sees clicks and the last
    mask as maps.
    """

    def __init__(self) -> None:
        super().__init__()
        width = DIM // 8
        self.enter = nn.Conv2d(width + 1 + 2 * len(SPOTS), width, 1)
        self.blocks = nn.ModuleList([DetailBlock(width, dilation) for dilation in (1, 2, 3)])
        self.leave = nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, features: Tensor, maps: Tensor) -> Tensor:
        """Return the change to add to features (b, 32, h, w), given maps (b, 5, h, w)."""
        x = self.enter(torch.cat([features, maps.to(features.dtype)], dim=1))
        for block in self.blocks:
            x = block(x)
        return self.leave(x)


class DetailBlock(nn.Module):
    """A residual block: depthwise 5x5 convolution, norm, GELU and 1x1 convolution."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.near = nn.Conv2d(width, width, 5, padding=2 * dilation, dilation=dilation, groups=width)
        self.norm = LayerNorm2d(width)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, c, h, w) to the same shape."""
        return x + self.mix(F.gelu(self.norm(self.near(x))))


class Lite(Sam):
    """SAM's rules on frames that are padded only to whole cells, with finer maps in the decoder."""

    stride = 32
    image_encoder: Pyramid

    def __init__(self, config: LiteConfig, image_encoder: Pyramid) -> None:
        super().__init__(config, image_encoder)
        if config.side > CANVAS:
            raise InputError(f"side {config.side}: expected at most {CANVAS}, the side in which positions are encoded")
        self.canvas = CANVAS
        self.image_mean, self.image_std = (torch.tensor(each).view(1, 3, 1, 1) for each in (config.mean, config.std))

    def frame_rule(self, side: int) -> tuple[SizeRule, Resampling]:
        """Return the size of views and how pixels are resized to it."""
        return LongSide(side), "half_pixel"

    def train(self, mode: bool = True) -> "Lite":
        """Switch modes; the backbone's batch norms stay in eval mode, since small batches spoil their statistics."""
        super().train(mode)
        for part in self.image_encoder.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()
        return self

    def frame_hw(self, hw: tuple[int, int]) -> tuple[int, int]:
        """Return the size of a view in the frame, which is its own size unless it is too large."""
        return hw if max(hw) <= self.config.side else super().frame_hw(hw)

    def make_halves(self) -> tuple[PromptEncoder, MaskDecoder]:
        """Build the prompt encoder and the decoder; the convolutions of the finer maps start at zero."""
        decoder = MaskDecoder(fine_widths=self.image_encoder.widths, details=Details())
        for conv in (decoder.conv_s0, decoder.conv_s1):
            assert conv is not None
            assert conv.bias is not None
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)
        return PromptEncoder(), decoder

    def detail_maps(
        self, prompts: Prompts, low_logits: Tensor | None, fed: Tensor | None, grid: tuple[int, int]
    ) -> Tensor:
        """Draw the maps of `Details`: the last logits, and the clicks as spots."""
        hw = (4 * grid[0], 4 * grid[1])
        if low_logits is None:
            last = prompts.xy.new_zeros(len(prompts.xy), 1, *hw)
        else:
            last = low_logits if fed is None else low_logits * fed.view(-1, 1, 1, 1)
        return torch.cat([last.clamp(-LARGEST, LARGEST) / LARGEST, spots(prompts, hw)], dim=1)

    def padded_hw(self, inside: tuple[int, int]) -> tuple[int, int]:
        """Return the size of the frame around a view of size `inside`, rounded up to whole cells."""
        height, width = (-(-side // self.stride) * self.stride for side in inside)
        return height, width

    def encode(self, frame: Tensor) -> Started:
        """Encode frames (b, 3, h, w) to the embedding and the backbone's maps at strides 8 and 4."""
        return self.image_encoder(frame)

    def finish(self, encoded: Started) -> Started:
        """Narrow the finer maps; these convolutions are trained even if the encoder is frozen."""
        embedding, second, first = encoded
        return embedding, *self.mask_decoder.fine_maps(second, first)

    def layers(self) -> Sequence[tuple[str, ...]]:
        """List the backbone's stages, as timm numbers them, then the neck."""
        stages = dict.fromkeys(
            ".".join(name.split(".")[:2]) if name.startswith("blocks.") else name.split(".")[0]
            for name, _ in self.image_encoder.trunk.named_parameters()
        )
        return [*((f"image_encoder.trunk.{stage}.",) for stage in stages), ("image_encoder.",)]

    def fresh(self) -> tuple[str, ...]:
        """List the parameters that MobileSAM does not have."""
        return "image_encoder.lateral.", "mask_decoder.conv_s", "mask_decoder.details."

    def fit_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add neutral `details` to weights that were saved before the module existed."""
        details = {name: value for name, value in self.state_dict().items() if name.startswith("mask_decoder.details.")}
        return super().fit_state(state if details.keys() & state.keys() else details | state)

    def load_base(self, state: dict[str, Tensor]) -> list[str]:
        """Load MobileSAM's weights; returns the names of the tensors that were set.

        Raises InputError, before anything is copied, if tensors are missing or have another shape.
        """
        names = {ours: flat(ours) for ours in self.state_dict() if not ours.startswith(self.fresh())}
        return copy_tensors(self, state, names, "network")

    def load_backbone(self, state: dict[str, Tensor]) -> list[str]:
        """Load weights of the backbone under timm's names; returns the names of the tensors that were set."""
        names = {f"image_encoder.trunk.{key}": flat(key) for key in self.image_encoder.trunk.state_dict()}
        return copy_tensors(self, state, names, "backbone")


def flat(name: str) -> str:
    """Return a parameter's name in timm's whole model, whose feature extractor names the stages differently."""
    return re.sub(r"\bstages_(\d)\.", r"stages.\1.", name)
