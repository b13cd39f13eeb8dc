"""Decoders of SegFormer and SimpleClick that apply their 1x1 convolutions before upsampling.

A 1x1 convolution and bilinear upsampling are both linear, and they commute. Each level is multiplied by its slice of
the fusion's weights at its own size, and only the sum has full size, which is a third of the work or less.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from models.fast.resize import sum_upsampled
from models.networks.mit import SegFormerHead
from models.networks.simpleclick import Head


class CommutedHead(Head):
    """SimpleClick's head."""

    def fuse(self, features: Sequence[Tensor]) -> Tensor:
        """Fuse four scales at the size of the first."""
        slices = self.fusion_conv.conv.weight.chunk(len(features), dim=1)
        biases = (self.fusion_conv.conv.bias, None, None, None)
        parts = [
            F.linear(conv(x).permute(0, 2, 3, 1), weight.flatten(1), bias)
            for conv, x, weight, bias in zip(self.convs, features, slices, biases, strict=True)
        ]
        return F.relu(sum_upsampled(parts[0], parts[1:]), inplace=True).permute(0, 3, 1, 2)


class CommutedSegFormerHead(SegFormerHead):
    """SegFormer's head, which also merges two successive linear maps into their product."""

    def fuse(self, maps: Sequence[Tensor]) -> Tensor:
        """Fuse four scales at the size of the first."""
        slices = self.linear_fuse.conv.weight.flatten(1).chunk(len(maps), dim=1)
        parts = []
        for level, (x, fuse) in enumerate(zip(maps, reversed(slices), strict=True), start=1):
            own = self.linear(level).proj
            bias = fuse @ own.bias
            if level == 1 and self.linear_fuse.conv.bias is not None:  # of a folded batch norm
                bias = bias + self.linear_fuse.conv.bias
            parts.append(F.linear(x.permute(0, 2, 3, 1), fuse @ own.weight, bias))
        total = sum_upsampled(parts[0], parts[1:]).permute(0, 3, 1, 2)
        return F.relu(self.linear_fuse.bn(total), inplace=True)


COMMUTED: dict[type[nn.Module], type[nn.Module]] = {Head: CommutedHead, SegFormerHead: CommutedSegFormerHead}
