"""Convolutions as a CPU likes them: oneDNN's own call, which adds bias, shortcut and ReLU in the same pass over memory.

torch sends a 1x1 convolution of one image, and any small one, to an im2col path with passes of its own for the rest.
The fused call is what torch.compile emits; where it does not apply (another device, float64, gradients, an exported
graph) the ordinary operators answer.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BUILT = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
SMALL = 64 * 64
"""Pixels of a map up to which laying out the weights is a noticeable part of a convolution."""


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: tuple[int, ...] = (1, 1),
    padding: tuple[int, ...] = (0, 0),
    dilation: tuple[int, ...] = (1, 1),
    groups: int = 1,
    plus: Tensor | None = None,
    relu: bool = False,
) -> Tensor:
    """Convolve as `F.conv2d` does, add `plus` and take the positive part if asked.

    Under autocast it runs in the precision of `weight`.
    """
    if not _fusible(x, weight):
        y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
        y = y if plus is None else y.add_(plus)
        return F.relu(y, inplace=True) if relu else y
    if torch.is_autocast_enabled("cpu"):
        x = x.to(weight.dtype)
        bias = None if bias is None else bias.to(weight.dtype)
    if weight.shape[1:] == (1, 1, 1) and groups == max(stride) == 1 and plus is None:
        # As a product it comes out channels last.
        y = F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
        return F.relu(y, inplace=True) if relu else y
    fused: Any = torch.ops.mkldnn._convolution_pointwise
    where = (padding, stride, dilation, groups)
    if plus is None:
        return fused(x, weight, bias, *where, "relu" if relu else "none", [], "")
    return fused.binary(x, plus.to(x.dtype), weight, bias, *where, "add", 1.0, "relu" if relu else None, [], "")


def _fusible(x: Tensor, weight: Tensor) -> bool:
    if not BUILT or x.device.type != "cpu" or torch.compiler.is_compiling() or torch.is_grad_enabled():
        return False
    same = x.dtype == weight.dtype or torch.is_autocast_enabled("cpu")
    return same and weight.dtype in (torch.float32, torch.bfloat16) and x.numel() > 0


class FusedConv2d(nn.Conv2d):
    """A convolution that already exists, with the ReLU that follows it, if one does."""

    relu = False
    _packed: Tensor | None = None

    @property
    def sides(self) -> tuple[int, ...]:
        """Padding in pixels."""
        assert not isinstance(self.padding, str)
        return self.padding

    @classmethod
    def of(cls, conv: nn.Conv2d) -> "FusedConv2d":
        """Take over a convolution's shape and parameters."""
        if isinstance(conv, FusedConv2d):
            return conv
        fused = cls.__new__(cls)
        nn.Module.__init__(fused)
        fused.__dict__.update(conv.__dict__)
        return fused

    def forward(self, input: Tensor, plus: Tensor | None = None) -> Tensor:
        """Convolve, add, take the positive part."""
        with torch.autocast(input.device.type, enabled=False):  # the weights say in which precision
            x = input.to(self.weight.dtype)
            bias = None if self.bias is None else self.bias.to(self.weight.dtype)
            plus = None if plus is None else plus.to(self.weight.dtype)
            if self.out_channels == 1 and self.kernel_size == (3, 3) and self.stride == self.padding == self.dilation:
                return _to_one(x, self.weight, bias)
            return conv2d(
                x, self._ready(x), bias, stride=self.stride, padding=self.sides, dilation=self.dilation,
                groups=self.groups, plus=plus, relu=self.relu,
            )  # fmt: skip

    def _ready(self, x: Tensor) -> Tensor:
        """The weights as oneDNN lays them out: else it does so at each call, a fifth of the time of a small map."""
        if (
            self.groups > 1
            or max(self.kernel_size) == 1
            or x.shape[2] * x.shape[3] > SMALL
            or not _fusible(x, self.weight)
        ):
            return self.weight
        packed = self._packed
        if packed is None or packed.dtype != self.weight.dtype:
            where = (self.sides, self.stride, self.dilation, self.groups, list(x.shape))
            packed = self._packed = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *where)
        return packed

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the packed weights, which are made again where they are needed."""
        return {key: value for key, value in self.__dict__.items() if key != "_packed"}


def _to_one(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 3x3 convolution to one channel: its nine products for every pixel at once, then their shifted sum."""
    h, w = x.shape[2:]
    taps = conv2d(x, weight[0].permute(1, 2, 0).reshape(9, -1, 1, 1), None)
    taps = F.pad(taps.contiguous(), (1, 1, 1, 1))
    total = taps[:, :1, :h, :w]
    for tap in range(1, 9):
        total = total + taps[:, tap : tap + 1, tap // 3 :, tap % 3 :][..., :h, :w]
    return total if bias is None else total + bias[:, None, None]


class FusedBlock(nn.Module):
    """A residual block of ResNet or HRNet, norms folded: convolutions, each with ReLU, the last on a shortcut."""

    def __init__(self, convs: list[FusedConv2d], downsample: nn.Module | None) -> None:
        super().__init__()
        for conv in convs:
            conv.relu = True
        self.convs = nn.ModuleList(convs)
        self.downsample = nn.Identity() if downsample is None else downsample

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        shortcut = self.downsample(x)
        *before, last = self.convs
        for conv in before:
            x = conv(x)
        return last(x, plus=shortcut)


def fuse_convs(module: nn.Module) -> None:
    """Replace convolutions, and what can be done in their pass, in place; batch norms must be folded already."""
    from timm.models.resnet import BasicBlock, Bottleneck

    for name, child in list(module.named_children()):
        fuse_convs(child)
        if isinstance(child, nn.Conv2d) and type(child) is nn.Conv2d and child.padding_mode == "zeros":
            setattr(module, name, FusedConv2d.of(child))
        elif isinstance(child, BasicBlock | Bottleneck):
            setattr(module, name, _block(child))
    if isinstance(module, nn.Sequential):
        parts = [part for part in module if not isinstance(part, nn.Identity)]
        for conv, following in pairwise(parts):
            if isinstance(conv, FusedConv2d) and isinstance(following, nn.ReLU):
                conv.relu = True


def _block(block: Any) -> nn.Module:
    """The same block, fused, unless it has more in it than convolutions and ReLU."""
    convs = [getattr(block, name) for name in ("conv1", "conv2", "conv3") if hasattr(block, name)]
    between = [getattr(block, name, None) for name in ("bn1", "bn2", "bn3", "drop_block", "aa", "se", "drop_path")]
    acts = [getattr(block, f"act{number + 1}") for number in range(len(convs))]
    plain = all(part is None or isinstance(part, nn.Identity) for part in between)
    if plain and all(type(act) is nn.ReLU for act in acts) and all(isinstance(conv, FusedConv2d) for conv in convs):
        return FusedBlock(convs, block.downsample)
    return block
