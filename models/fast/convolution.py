"""Convolutions for inference, in the precision of their weights and with oneDNN on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import compat


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: tuple[int, ...] = (1, 1),
    padding: tuple[int, ...] = (0, 0),
    dilation: tuple[int, ...] = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Convolve as `F.conv2d` does, in the precision of `weight` even under autocast."""
    with torch.autocast(x.device.type, enabled=False):
        bias = None if bias is None else bias.to(weight.dtype)
        return compat.conv2d(x.to(weight.dtype), weight, bias, stride, padding, dilation, groups)


class Conv2d(nn.Conv2d):
    """A convolution that runs in the precision of its weights."""

    def forward(self, input: Tensor) -> Tensor:
        """Convolve."""
        if self.padding_mode != "zeros" or isinstance(self.padding, str):
            return super().forward(input)
        same = self.stride == self.padding == self.dilation == (1, 1)
        if same and self.out_channels == self.groups == 1 and self.kernel_size == (3, 3):
            return to_one(input, self.weight, self.bias)
        where = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}
        return conv2d(input, self.weight, self.bias, **where)


def to_one(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve 3x3 to one channel: compute the nine products of every pixel at once, then sum them shifted."""
    h, w = x.shape[2:]
    taps = conv2d(x, weight[0].permute(1, 2, 0).reshape(9, -1, 1, 1))
    taps = F.pad(taps.contiguous(), (1, 1, 1, 1))
    total = taps[:, :1, :h, :w]
    for tap in range(1, 9):
        total = total + taps[:, tap : tap + 1, tap // 3 :, tap % 3 :][..., :h, :w]
    return total if bias is None else total + bias.to(total.dtype)[:, None, None]
