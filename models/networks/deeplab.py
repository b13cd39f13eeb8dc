"""Parts of DeepLabV3+ (Chen et al., ECCV 2018) as FocusCut uses them: dilated ResNet, ASPP, decoder.

See docs/PAPERS.md, FocusCut: network. The names of the parts are those of the published weights.
"""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from models.fit import check_fit, shapes_of
from models.networks.base import upsample
from models.networks.pooled import PooledNorm

STEM = "layers.0.0.weight"
MARKS = ("conv1.weight", "layer1.0.conv1.weight")
"""Tensors that identify the file of a ResNet classifier."""
STRIDES = (1, 2, 2, 1)
MULTI_GRID = (2, 4, 8)
"""Dilations of the last stage's blocks, in order."""


def conv_norm_relu(dim_in: int, dim_out: int, side: int = 1) -> list[nn.Module]:
    """List a convolution that keeps the size, batch normalisation and ReLU."""
    conv = nn.Conv2d(dim_in, dim_out, side, padding=side // 2, bias=False)
    return [conv, nn.BatchNorm2d(dim_out), nn.ReLU(inplace=True)]


class DilatedResNet(nn.Module):
    """ResNet of bottlenecks at output stride 16, whose last stage is dilated instead of strided.

    `width` is the number of channels of the stem; the stages have 4, 8, 16 and 32 times as many.
    """

    def __init__(self, channels: int, layers: tuple[int, int, int, int], width: int) -> None:
        super().__init__()
        from timm.models.resnet import Bottleneck, downsample_conv

        stem = [nn.Conv2d(channels, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.layers = nn.ModuleList([nn.Sequential(*stem, nn.MaxPool2d(3, 2, 1))])
        dim = width
        for stage, num_blocks in enumerate(layers):
            planes = width * 2**stage
            blocks: list[nn.Module] = []
            for number in range(num_blocks):
                stride = STRIDES[stage] if number == 0 else 1
                shortcut = downsample_conv(dim, 4 * planes, 1, stride) if number == 0 else None
                dilation = MULTI_GRID[number % len(MULTI_GRID)] if stage == 3 else 1
                blocks.append(Bottleneck(dim, planes, stride, shortcut, dilation=dilation))
                dim = 4 * planes
            self.layers.append(nn.Sequential(*blocks))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of stride 4 (first stage) and of stride 16."""
        side = self.layers[1](self.layers[0](x))
        deep = side
        for stage in self.layers[2:]:
            deep = stage(deep)
        return side, deep

    def load_classifier(self, state: Mapping[str, Tensor]) -> list[str]:
        """Load the weights of a ResNet classifier of the same depth (timm's or torchvision's names), in place.

        The stem's filters for the first 3 channels are loaded; those for further channels keep their values. Returns
        the names of the tensors that were set. Raises InputError, before anything is loaded, if tensors do not fit.
        """
        given = backbone_state(state)
        wanted = self.state_dict()
        expected = shapes_of(wanted)
        expected[STEM] = (expected[STEM][0], 3, *expected[STEM][2:])
        # Old torchvision files have no batch counts, and no forward here uses them.
        counts = {name: () for name in expected if name.endswith("num_batches_tracked")}
        title = "these weights do not fit the backbone: expected those of a plain ResNet of the same depth"
        check_fit(title, expected, counts | shapes_of(given))
        given[STEM] = torch.cat([given[STEM].to(wanted[STEM]), wanted[STEM][:, 3:]], 1)
        self.load_state_dict({**wanted, **given})
        return [name for name in wanted if name in given]


def backbone_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a ResNet classifier's tensors (timm, torchvision) to those of a DilatedResNet, without its last layer.

    Unknown tensors keep their names.
    """
    names = {"conv1": "layers.0.0", "bn1": "layers.0.1"} | {f"layer{stage}": f"layers.{stage}" for stage in range(1, 5)}
    parts = {key: key.partition(".") for key in state}
    return {f"{names.get(part, part)}.{rest}": state[key] for key, (part, _, rest) in parts.items() if part != "fc"}


class AtrousBranch(nn.Module):
    """One branch of the ASPP: a dilated convolution; dilation 0 means 1x1."""

    def __init__(self, dim_in: int, dim_out: int, dilation: int) -> None:
        super().__init__()
        side = 3 if dilation else 1
        self.atrous_conv = nn.Conv2d(dim_in, dim_out, side, padding=dilation, dilation=max(dilation, 1), bias=False)
        self.bn = nn.BatchNorm2d(dim_out)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.bn(self.atrous_conv(x)).relu_()


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: a 1x1 branch, three dilated ones, and the mean over the view."""

    def __init__(self, dim_in: int, dim: int, dilations: tuple[int, int, int]) -> None:
        super().__init__()
        self.aspp1 = AtrousBranch(dim_in, dim, 0)
        self.aspp2 = AtrousBranch(dim_in, dim, dilations[0])
        self.aspp3 = AtrousBranch(dim_in, dim, dilations[1])
        self.aspp4 = AtrousBranch(dim_in, dim, dilations[2])
        conv, _, relu = conv_norm_relu(dim_in, dim)
        self.global_avg_pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv, PooledNorm(dim), relu)
        self.conv1 = nn.Conv2d(5 * dim, dim, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Fuse the branches; raises InputError for a batch of 1 in training."""
        branches = [branch(x) for branch in (self.aspp1, self.aspp2, self.aspp3, self.aspp4)]
        pooled = self.global_avg_pool(x).expand(-1, -1, *x.shape[2:])
        return self.bn1(self.conv1(torch.cat([*branches, pooled], 1))).relu_()


class Decoder(nn.Module):
    """Merge the ASPP's output with the features of stride 4, at stride 4."""

    def __init__(self, dim_side: int, dim_narrow: int, dim: int) -> None:
        super().__init__()
        self.side_conv = nn.Sequential(*conv_norm_relu(dim_side, dim_narrow))
        self.merge_conv = nn.Sequential(*conv_norm_relu(dim + dim_narrow, dim, 3), *conv_norm_relu(dim, dim, 3))

    def forward(self, deep: Tensor, side: Tensor) -> Tensor:  # noqa: D102
        hw = (side.shape[2], side.shape[3])
        return self.merge_conv(torch.cat([upsample(deep, hw), self.side_conv(side)], 1))


def prediction(dim: int) -> nn.Sequential:
    """Classify each pixel: a 1x1 convolution under the published name `pred_conv.0`."""
    return nn.Sequential(OrderedDict(pred_conv=nn.Sequential(nn.Conv2d(dim, 1, 1))))
