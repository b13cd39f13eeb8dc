"""What of torch is used without a documented interface, and why; tests/models/test_compat.py holds the contracts."""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

TRIED = ("2.13",)
"""Versions of torch on which the contract tests pass."""


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """Convolve as `F.conv2d` does, on a CPU always by oneDNN; without gradient.

    For one image on one thread `F.conv2d` takes 1x1 convolutions, and small ones, to a plain product instead, which
    costs a prepared FocusCut .3 and HRNet .1 of its time. There is no public switch for it. Where oneDNN does not
    apply (another device, another precision, gradients, a graph that is traced) or `works` says no, F.conv2d answers.
    """
    applies = (
        x.device.type == "cpu"
        and x.dtype == weight.dtype
        and x.dtype in (torch.float32, torch.bfloat16)
        and x.numel() > 0
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
    )
    if applies and works():
        return torch.mkldnn_convolution(x, weight, bias, padding, stride, dilation, groups)
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


@cache
def works() -> bool:
    """Whether torch still has oneDNN's convolution under this name, and it answers as `F.conv2d` does."""
    x, weight, bias = (torch.linspace(-1, 1, n) for n in (4 * 25, 2 * 4 * 9, 2))
    x, weight = x.view(1, 4, 5, 5), weight.view(2, 4, 3, 3)
    expected = F.conv2d(x, weight, bias, 2, 1)
    try:
        found = torch.mkldnn_convolution(x, weight, bias, (1, 1), (2, 2), (1, 1), 1)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return found.shape == expected.shape and torch.allclose(found, expected, atol=1e-5)
