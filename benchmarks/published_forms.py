"""Decoders as the papers write them, to measure what the public implementations' arithmetic costs.

Ours give the same answers by other orders of operations; benchmarks.networks puts these back for its baseline.
"""

import types
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.base import upsample
from models.networks.correction import MaskCorrection, gather
from models.networks.hrnet import HRNetOCR, ObjectContext
from models.networks.mit import SegFormerHead
from models.networks.simpleclick import Head


def segformer_head(self: Any, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
    """A linear map per level, upsampling, concatenation from the coarsest on, 1x1 convolution."""
    hw = maps[0].shape[2:]
    parts = []
    for level in (4, 3, 2, 1):
        x = maps[level - 1]
        tokens = self.get_submodule(f"linear_c{level}").proj(x.flatten(2).transpose(1, 2))
        part = tokens.transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])
        parts.append(F.interpolate(part, size=hw, mode="bilinear", align_corners=False))
    feature = self.dropout(F.relu(self.linear_fuse.bn(self.linear_fuse.conv(torch.cat(parts, 1)))))
    return feature, self.linear_pred(feature)


def mlp_head_fuse(self: Any, features: list[Tensor]) -> Tensor:
    """1x1 convolution and ReLU per level, upsampling, concatenation, 1x1 convolution."""
    hw = features[0].shape[2:]
    parts = [conv(x) for conv, x in zip(self.convs, features, strict=True)]
    parts = [F.interpolate(x, size=hw, mode="bilinear", align_corners=False) for x in parts]
    return self.fusion_conv(torch.cat(parts, 1))


def hrnet_aux(self: Any, branches: list[Tensor]) -> Tensor:
    """Upsampling, concatenation, then the auxiliary head."""
    hw = (branches[0].shape[2], branches[0].shape[3])
    return self.aux_head(torch.cat([upsample(y, hw) for y in branches], 1))


def hrnet_merge(self: Any, branches: list[Tensor]) -> Tensor:
    """Upsampling, concatenation, 3x3 convolution."""
    hw = (branches[0].shape[2], branches[0].shape[3])
    return self.conv3x3_ocr(torch.cat([upsample(y, hw) for y in branches], 1))


def object_context(self: Any, x: Tensor, aux_logits: Tensor) -> Tensor:
    """The context as a map, concatenated with the features."""
    weights = aux_logits.flatten(2).softmax(-1)
    context = (x.flatten(2) @ weights.transpose(1, 2))[..., None]
    context = self.object_context_block["f_up"](self.object_context_block["f_down"](context))
    return self.dropout(self.conv_bn_dropout(torch.cat([context.expand_as(x), x], 1)))


def correlate(self: Any, x: Tensor, templates: Any) -> Tensor:
    """Keys for every cell, queries for every template, their products."""
    query, key = self.feature_convq(x), self.feature_convk(x).flatten(2)
    maps = [
        self.corr_conv((gather(query, cells) @ key).view(x.shape[0], -1, *x.shape[2:]))
        for cells in (templates.positive, templates.negative)
    ]
    return self.corr_fusion(*maps)


def take(self: Any, feature: Tensor, image: Tensor) -> Tensor:
    """Nothing: the feature is cached as it is."""
    return feature


def correction(self: Any, image: Tensor, features: Tensor, low_logits: Tensor, clicks: Any) -> Tensor:
    """The cached feature is brought to the correction's channels at every click."""
    return MaskCorrection.forward(self, image, MaskCorrection.take(self, features, image), low_logits, clicks)


FORMS: tuple[tuple[type, str, Any], ...] = (
    (SegFormerHead, "forward", segformer_head),
    (Head, "fuse", mlp_head_fuse),
    (HRNetOCR, "aux_logits", hrnet_aux),
    (HRNetOCR, "merge", hrnet_merge),
    (ObjectContext, "forward", object_context),
    (MaskCorrection, "correlate", correlate),
    (MaskCorrection, "take", take),
    (MaskCorrection, "forward", correction),
)


def as_published(network: nn.Module) -> nn.Module:
    """Put the published forms into a network, in place; returns it."""
    for module in network.modules():
        for kind, name, form in FORMS:
            if isinstance(module, kind):
                setattr(module, name, types.MethodType(form, module))
    return network
