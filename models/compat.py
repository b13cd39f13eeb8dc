"""Uses of torch without a documented interface, and the reason for each; tests/models/test_compat.py checks them."""

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
    """Convolve as `F.conv2d` does, without gradient, and always with oneDNN on a CPU.

    For one image on one thread, `F.conv2d` computes 1x1 and small convolutions as a plain matrix product instead, which
    costs a prepared FocusCut .3 and HRNet .1 of its time. There is no public switch for it. Falls back to `F.conv2d`
    where oneDNN does not apply (another device or precision, gradients, a traced graph) or `works` returns False.
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
    """Whether torch still has oneDNN's convolution under this name, with the same result as `F.conv2d`."""
    x, weight, bias = (torch.linspace(-1, 1, n) for n in (4 * 25, 2 * 4 * 9, 2))
    x, weight = x.view(1, 4, 5, 5), weight.view(2, 4, 3, 3)
    expected = F.conv2d(x, weight, bias, 2, 1)
    try:
        found = torch.mkldnn_convolution(x, weight, bias, (1, 1), (2, 2), (1, 1), 1)
    except (AttributeError, RuntimeError, TypeError):
        return False
    return found.shape == expected.shape and torch.allclose(found, expected, atol=1e-5)
