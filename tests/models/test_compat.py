"""Contracts of models/compat.py: the undocumented parts of torch that it uses exist and work."""

import pytest
import torch
import torch.nn.functional as F

from models import compat

KERNELS = [
    ((1, 8, 12, 10), (6, 8, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    ((2, 8, 12, 10), (6, 8, 3, 3), (2, 2), (1, 1), (1, 1), 1),
    ((1, 8, 12, 10), (8, 1, 3, 3), (1, 1), (2, 2), (2, 2), 8),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("shape", "kernel", "stride", "padding", "dilation", "groups"), KERNELS)
def test_onednn_convolution_agrees_with_torch(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    dtype: torch.dtype,
) -> None:
    assert compat.works(), "torch.mkldnn_convolution is gone or answers otherwise: see compat.conv2d"
    torch.manual_seed(0)
    x, weight, bias = (torch.randn(size, dtype=dtype) for size in (shape, kernel, kernel[:1]))
    expected = F.conv2d(x.double(), weight.double(), bias.double(), stride, padding, dilation, groups)
    with torch.inference_mode():
        found = compat.conv2d(x, weight, bias, stride, padding, dilation, groups)
    assert found.dtype == dtype
    assert torch.allclose(found.double(), expected, atol=1e-4 if dtype == torch.float32 else 0.1)


@pytest.mark.parametrize("broken", ["gone", "wrong"])
def test_conv2d_falls_back_to_torch_without_onednn(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if broken == "gone":
        monkeypatch.delattr(torch, "mkldnn_convolution")
    else:
        monkeypatch.setattr(torch, "mkldnn_convolution", lambda x, weight, *_: torch.zeros(1, 2, 7, 7))
    compat.works.cache_clear()
    x, weight = torch.randn(1, 3, 8, 8), torch.randn(4, 3, 1, 1)
    try:
        assert not compat.works()
        with torch.inference_mode():
            assert torch.equal(compat.conv2d(x, weight, None, (1, 1), (0, 0), (1, 1), 1), F.conv2d(x, weight))
    finally:
        monkeypatch.undo()
        compat.works.cache_clear()


def test_installed_torch_is_a_tried_version() -> None:
    tried = any(torch.__version__.startswith(f"{version}.") for version in compat.TRIED)
    assert tried, "this version of torch is not in compat.TRIED: run this file on it, and add it"
