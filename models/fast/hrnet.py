"""HRNet's heads on branches at their own sizes; the paper concatenates them at the size of the largest."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from models.fast.convolution import conv2d
from models.fast.resize import conv_upsampled, sum_upsampled
from models.networks.hrnet import HRNetOCR, ObjectContext, concatenated


class CommutedHRNetOCR(HRNetOCR):
    """HRNet + OCR whose auxiliary head applies its 1x1 convolution before the upsampling, with which it commutes."""

    def heads(self, branches: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the auxiliary logits and the feature from which they pool the object's context."""
        return self.aux_logits(branches), self.conv3x3_ocr(concatenated(branches))

    def aux_logits(self, branches: Sequence[Tensor]) -> Tensor:
        """Multiply each branch by its part of the weights at its own size."""
        conv: Any = self.aux_head[0]
        own: Any = conv.weight.flatten(1).split([y.shape[1] for y in branches], 1)
        biases = (conv.bias, None, None, None)
        parts = [F.linear(y.permute(0, 2, 3, 1), w, b) for y, w, b in zip(branches, own, biases, strict=True)]
        return self.aux_head[1:](sum_upsampled(parts[0], parts[1:], align_corners=True).permute(0, 3, 1, 2))


class PreparedHRNetOCR(CommutedHRNetOCR):
    """Also apply the 3x3 convolution before upsampling, tap by tap, with shifted resizing matrices."""

    def heads(self, branches: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the auxiliary logits and the feature from which they pool the object's context."""
        conv: Any = self.conv3x3_ocr[0]
        merged = conv_upsampled(branches[0], branches[1:], conv.weight, conv.bias)
        return self.aux_logits(branches), self.conv3x3_ocr[1:](merged)


class SlicedObjectContext(ObjectContext):
    """Transform the context, which is the same for all pixels, and multiply it by its half of the weights, once."""

    def forward(self, x: Tensor, aux_logits: Tensor) -> Tensor:
        """Add to `x` (b, c, h, w) its context, weighted by the softmax of `aux_logits` over all pixels."""
        context = self.object_context_block["f_down"](self.gathered(x, aux_logits))
        if self.training:  # batch statistics must be those of the whole map
            context = context.expand(-1, -1, x.shape[2], x.shape[3])
        context = self.object_context_block["f_up"](context)
        conv: Any = self.conv_bn_dropout[0]
        of_context, of_pixels = conv.weight.chunk(2, dim=1)
        joined = self.convolve(x, of_pixels) + F.conv2d(context, of_context, conv.bias)
        return self.dropout(self.conv_bn_dropout[1](joined))

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """Apply a 1x1 convolution."""
        return F.conv2d(x, weight)


class PreparedObjectContext(SlicedObjectContext):
    """Object context with the convolution of a prepared network."""

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """Apply a 1x1 convolution."""
        return conv2d(x, weight)


COMMUTED: dict[type[nn.Module], type[nn.Module]] = {HRNetOCR: CommutedHRNetOCR, ObjectContext: SlicedObjectContext}
PREPARED: dict[type[nn.Module], type[nn.Module]] = {HRNetOCR: PreparedHRNetOCR, ObjectContext: PreparedObjectContext}
