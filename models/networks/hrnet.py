"""HRNet with an object-contextual head (HRNetV2 + OCR), as in RITM and EMC-Click (docs/PAPERS.md, RITM: network).

Blocks, transitions and fusion layers are timm's. The fusion is summed here, because timm's forward upsamples by nearest
neighbours where these networks interpolate bilinearly.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.base import upsample
from models.networks.blocks import outermost, residual
from models.networks.pooled import PooledNorm
from models.networks.pretrained import copy_tensors

BODY = (
    "conv1", "bn1", "conv2", "bn2", "layer1", "transition1", "stage2", "transition2", "stage3", "transition3", "stage4"
)  # fmt: skip

MARKS = ("conv1.weight", "stage2.0.branches.0.0.conv1.weight")
"""Tensors that identify the file of such a backbone."""


class HRNetOutput(NamedTuple):
    """Outputs at stride 4: `logits` and `aux_logits` (b, 1, h, w), `feature` (b, 2 * ocr width, h, w)."""

    logits: Tensor
    aux_logits: Tensor
    feature: Tensor


def stages(width: int, small: bool) -> dict[str, Any]:
    """Return timm's configuration of the body: branches of width, 2 width, ...; `small` has half the blocks."""
    blocks = 2 if small else 4
    first = {"num_modules": 1, "num_branches": 1, "block_type": "BOTTLENECK", "num_blocks": (blocks,)}
    layout: dict[str, Any] = {"stem_width": 64, "stage1": {**first, "num_channels": (64,), "fuse_method": "SUM"}}
    for branches, modules in ((2, 1), (3, 3 if small else 4), (4, 2 if small else 3)):
        layout[f"stage{branches}"] = {
            "num_modules": modules,
            "num_branches": branches,
            "block_type": "BASIC",
            "num_blocks": (blocks,) * branches,
            "num_channels": tuple(width * 2**branch for branch in range(branches)),
            "fuse_method": "SUM",
        }
    return layout


class HRNetOCR(nn.Module):
    """Body, auxiliary head, object context and classifier; names are those of the published files."""

    # Parts of timm's body, listed in BODY.
    conv1: Any
    bn1: Any
    conv2: Any
    bn2: Any
    layer1: Any
    transition1: Any
    stage2: Any
    transition2: Any
    stage3: Any
    transition3: Any
    stage4: Any

    def __init__(self, width: int, ocr_width: int, small: bool) -> None:
        super().__init__()
        from timm.models.hrnet import HighResolutionNet

        body: Any = HighResolutionNet(stages(width, small), head="")
        for name in BODY:
            setattr(self, name, getattr(body, name))
        channels, feature = 15 * width, 2 * ocr_width
        self.aux_head = nn.Sequential(
            nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.Conv2d(channels, 1, 1)
        )
        self.conv3x3_ocr = nn.Sequential(
            nn.Conv2d(channels, feature, 3, padding=1), nn.BatchNorm2d(feature), nn.ReLU(inplace=True)
        )
        self.ocr_distri_head = ObjectContext(feature, ocr_width)
        self.cls_head = nn.Conv2d(feature, 1, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_normal_(module.weight, gain=math.sqrt(2))  # as RITM's authors do
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def blocks(self) -> list[nn.Module]:
        """List the residual blocks."""
        return outermost(self, residual)

    def pretrained_parts(self) -> list[nn.Module]:
        """List the body, and the fresh auxiliary head and classifier, which the public code includes here."""
        return [part for part in self.children() if part not in (self.conv3x3_ocr, self.ocr_distri_head)]

    def float32_parts(self) -> list[nn.Module]:
        """List the last stage, whose coarsest maps reach every pixel, and the layers after it.

        Rounding there moves the whole mask: in float32 the error falls from .43 to .007 of the logits' standard
        deviation.
        """
        return [self.stage4, self.conv3x3_ocr, self.ocr_distri_head, self.cls_head]

    def forward(self, image: Tensor, click_feature: Tensor) -> HRNetOutput:
        """Segment a normalised `image` (b, 3, h, w); `click_feature` (b, 64, h/2, w/2) is added in the stem."""
        x = F.relu(self.bn1(self.conv1(image)), inplace=True) + click_feature
        x = self.layer1(F.relu(self.bn2(self.conv2(x)), inplace=True))
        branches = [transition(x) for transition in self.transition1]
        for stage, transition in ((self.stage2, self.transition2), (self.stage3, self.transition3), (self.stage4, ())):
            for module in stage:
                branches = fuse(module, [branch(y) for branch, y in zip(module.branches, branches, strict=True)])
            # Existing branches are kept; the new one is made from the smallest.
            branches = branches + [grow(branches[-1]) for grow in list(transition)[len(branches) :]]
        aux_logits, merged = self.heads(branches)
        feature = self.ocr_distri_head(merged, aux_logits)
        return HRNetOutput(self.cls_head(feature), aux_logits, feature)

    def heads(self, branches: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the auxiliary logits (b, 1, h, w) and the feature from which they pool the object's context."""
        whole = concatenated(branches)
        return self.aux_head(whole), self.conv3x3_ocr(whole)


def concatenated(branches: Sequence[Tensor]) -> Tensor:
    """Resize all branches to the size of the first and concatenate their channels."""
    hw = (branches[0].shape[2], branches[0].shape[3])
    return torch.cat([upsample(y, hw) for y in branches], 1)


def fuse(module: Any, branches: list[Tensor]) -> list[Tensor]:
    """Exchange between resolutions: each output is the sum of all branches, resized to its size."""
    fused = []
    for i, layers in enumerate(module.fuse_layers):
        hw = (branches[i].shape[2], branches[i].shape[3])
        total = branches[i]
        for j, layer in enumerate(layers):
            if j < i:
                total = total + layer(branches[j])
            elif j > i:
                total = total + upsample(layer[1](layer[0](branches[j])), hw)
        fused.append(F.relu(total, inplace=True))
    return fused


class ObjectContext(nn.Module):
    """Object-contextual representations with one object class (Yuan et al., 2020).

    With one class the attention's softmax is constantly 1, so every pixel receives the same context. The two
    projections that would compare pixel and object are in the published files but have no effect, and are not built.
    """

    def __init__(self, feature: int, key: int) -> None:
        super().__init__()
        down = conv_bn(feature, key, PooledNorm)
        self.object_context_block = nn.ModuleDict({"f_down": down, "f_up": conv_bn(key, feature)})
        self.conv_bn_dropout = conv_bn(2 * feature, feature)
        self.dropout = nn.Dropout2d(0.05)

    def forward(self, x: Tensor, aux_logits: Tensor) -> Tensor:
        """Add to `x` (b, c, h, w) its context, weighted by the softmax of `aux_logits` over all pixels."""
        context = self.object_context_block["f_down"](self.gathered(x, aux_logits))
        context = self.object_context_block["f_up"](context.expand(-1, -1, x.shape[2], x.shape[3]))
        return self.dropout(self.conv_bn_dropout(torch.cat([context, x], 1)))

    def gathered(self, x: Tensor, aux_logits: Tensor) -> Tensor:
        """Return the weighted sum of the object's pixels, (b, c, 1, 1)."""
        weights = aux_logits.flatten(2).softmax(-1)  # (b, 1, pixels)
        return (x.flatten(2) @ weights.transpose(1, 2))[..., None]


def conv_bn(dim_in: int, dim_out: int, kind: type[nn.BatchNorm2d] = nn.BatchNorm2d) -> nn.Sequential:
    """Build a 1x1 convolution, batch normalisation and ReLU, nested as in the published names."""
    norm = nn.Sequential(kind(dim_out), nn.ReLU(inplace=True))
    return nn.Sequential(nn.Conv2d(dim_in, dim_out, 1, bias=False), norm)


class Scale(nn.Module):
    """Multiply by the absolute value of a learned number."""

    def __init__(self, start: float = 0.05) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), start))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return x * self.scale.abs()

    def fold_into(self, conv: nn.Conv2d) -> None:
        """Scale the preceding convolution instead."""
        for parameter in conv.parameters():
            parameter.mul_(self.scale.abs())


def maps_transform(channels: int) -> nn.Sequential:
    """Build the side branch that maps click maps (b, channels, h, w) to the stem's (b, 64, h/2, w/2)."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 1), nn.LeakyReLU(0.2, True), nn.Conv2d(16, 64, 3, stride=2, padding=1), Scale()
    )


def load_hrnet_backbone(network: nn.Module, state: dict[str, Tensor], prefix: str) -> list[str]:
    """Load timm's or the authors' ImageNet HRNet, in place; returns the names of the tensors that were set.

    Other tensors of such files (the classification head) are ignored. Raises InputError, before anything is copied, if
    tensors are missing or have another shape.
    """
    names = {
        name: name.removeprefix(prefix)
        for name in network.state_dict()
        if name.startswith(prefix) and name.removeprefix(prefix).split(".")[0] in BODY
    }
    # Old files have no batch counts, and no forward here uses them.
    names = {ours: theirs for ours, theirs in names.items() if theirs in state or not theirs.endswith("_tracked")}
    return copy_tensors(network, state, names, what="HRNet")
