"""EMC-Click's mask-correction network: a new mask from cached features, at a fraction of the first click's cost.

EMC-Click, section 3 (docs/PAPERS.md, EMC-Click: mask-correction network); each published ablation is a field of
CorrectionConfig. Names are those of the published files.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.click_maps import ClickBatch, squared_distances
from models.errors import InputError
from models.networks.base import upsample
from models.networks.templates import Templates, clicked_templates, select_templates


@dataclass(frozen=True, kw_only=True)
class CorrectionConfig:
    """Shape of the mask-correction network, and which of its parts are built."""

    correction_width: int = 64
    """Number of channels (C) and of templates (K)."""
    click_radius: float = 5.0
    first_click: bool = True
    """Show the first click to the heavy half; False: no click."""
    correlation: bool = True
    """Correlate every cell with the templates."""
    attention: bool = True
    """Let every cell attend to the templates."""
    template_selection: bool = True
    """Select cells that are similar to the clicks as templates; False: the clicked cells themselves (ours)."""
    correlation_negatives: bool = True
    """Also correlate with the templates of negative clicks."""
    attention_negatives: bool = True
    """Also attend to the templates of negative clicks."""

    def __post_init__(self) -> None:
        if self.correction_width < 4 or self.correction_width % 4:
            raise InputError(f"correction_width {self.correction_width}: expected a multiple of 4 (attention heads)")


class DepthwiseFusion(nn.Module):
    """Depthwise 3x3, norm, depthwise 3x3, 1x1, norm, ReLU."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.conv3x3_1 = nn.Conv2d(dim_in, dim_in, 3, padding=1, groups=dim_in)
        self.norm1 = nn.BatchNorm2d(dim_in)
        self.conv3x3_2 = nn.Conv2d(dim_in, dim_in, 3, padding=1, groups=dim_in)
        self.conv1x1 = nn.Conv2d(dim_in, dim_out, 1)
        self.norm2 = nn.BatchNorm2d(dim_out)

    def forward(self, *parts: Tensor) -> Tensor:
        """Fuse maps (b, c, h, w), which are concatenated along their channels."""
        x = torch.cat(parts, 1) if len(parts) > 1 else next(iter(parts))
        x = self.conv3x3_2(self.norm1(self.conv3x3_1(x)))
        return F.relu(self.norm2(self.conv1x1(x)), inplace=True)


class ConvNorm(nn.Module):
    """1x1 convolution, norm, ReLU."""

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim_in, dim_out, 1)
        self.norm = nn.BatchNorm2d(dim_out)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return F.relu(self.norm(self.conv(x)), inplace=True)


class MaskCorrection(nn.Module):
    """Map the image, all clicks, the cached features and the last low-resolution logits to new logits."""

    def __init__(self, config: CorrectionConfig, feature_channels: int) -> None:
        super().__init__()
        self.config = config
        c = config.correction_width
        self.image_conv1 = nn.Sequential(nn.PixelUnshuffle(4), DepthwiseFusion(6 * 16, c))
        self.image_conv2 = DepthwiseFusion(c, c)
        self.refine_fusion = ConvNorm(feature_channels, c)
        self.fusion1 = nn.ModuleList([DepthwiseFusion(2 * c, c), DepthwiseFusion(c, c)])
        if config.correlation:
            self.feature_convq = nn.Conv2d(c, c, 1)
            self.feature_convk = nn.Conv2d(c, c, 1)
            self.corr_conv = DepthwiseFusion(c, c)
            self.corr_fusion = DepthwiseFusion(2 * c if config.correlation_negatives else c, c)
        if config.attention:
            self.cross_attention = nn.MultiheadAttention(c, 4, batch_first=True)
        self.all_fusion = DepthwiseFusion(2 * c if config.correlation else c, c)
        self.refine_fusion1 = DepthwiseFusion(c, c)
        self.refine_fusion2 = DepthwiseFusion(c, c)
        self.refine_pred = nn.Conv2d(c, 1, 3, padding=1)

    def float32_parts(self) -> list[nn.Module]:
        """List the layers before the templates, and those that produce the logits.

        Templates are ranked by scores a millionth apart, and the rank is their channel, so the layers before them
        always run in float32 (`forward`). The layers of the logits are cheap, and half precision would move the logits
        by up to .06 of their standard deviation.
        """
        leading = [self.image_conv1, self.image_conv2, self.refine_fusion, self.fusion1]
        return [*leading, self.all_fusion, self.refine_fusion1, self.refine_fusion2, self.refine_pred]

    def take(self, feature: Tensor, image: Tensor) -> Tensor:
        """Project the heavy half's feature to this network's channels, at a quarter of the image's size.

        The result does not depend on later clicks, so it is computed once; caching it takes a few times less memory
        than caching the feature.
        """
        with torch.autocast(image.device.type, enabled=False):
            return upsample(self.refine_fusion(full(feature)), (image.shape[2] // 4, image.shape[3] // 4))

    def forward(self, image: Tensor, features: Tensor, low_logits: Tensor, clicks: ClickBatch) -> Tensor:
        """Return new low-resolution logits (b, 1, h/4, w/4).

        `image` (b, 3, h, w) is normalised, with sides that are multiples of 4; `features` are those of `take`.
        """
        hw = (image.shape[2], image.shape[3])
        distances = squared_distances(clicks, hw)
        with torch.autocast(image.device.type, enabled=False):
            pixels = full(image)
            disks = (distances <= self.config.click_radius**2).to(pixels.dtype)
            last = torch.sigmoid(upsample(full(low_logits), hw))
            x = self.image_conv2(self.image_conv1(torch.cat([pixels, disks, last], 1)))
            first, second = self.fusion1[0], self.fusion1[1]
            fused = second(first(full(features), x))
        return self.correct(fused, clicks, distances)

    def correct(self, x: Tensor, clicks: ClickBatch, distances: Tensor) -> Tensor:
        """Compare all cells of the fused feature `x` (b, c, h/4, w/4) with the templates and predict logits."""
        config = self.config
        parts: list[Tensor] = []
        if config.correlation or config.attention:
            templates = self.templates(x, clicks, distances)
            attended = self.attend(x, templates) if config.attention else x
            parts = [self.correlate(x, templates)] if config.correlation else []
            x = attended
        x = self.all_fusion(x, *parts)
        return self.refine_pred(self.refine_fusion2(self.refine_fusion1(x)))

    def templates(self, x: Tensor, clicks: ClickBatch, distances: Tensor) -> Templates:
        """Select the cells to compare with."""
        num = min(self.config.correction_width, x.shape[2] * x.shape[3])
        if num < self.config.correction_width:
            raise InputError(
                f"the view is {distances.shape[2]} x {distances.shape[3]} pixels: the mask-correction network needs "
                f"at least {self.config.correction_width} cells of 4 x 4 pixels"
            )
        if self.config.template_selection:
            with torch.autocast(x.device.type, enabled=False):
                return select_templates(full(x.detach()), clicks, distances, num)
        return clicked_templates(clicks, (x.shape[2], x.shape[3]), num)

    def correlate(self, x: Tensor, templates: Templates) -> Tensor:
        """Compute the inner product of every cell's key with every template's query, fused to (b, c, h, w)."""
        query, key = self.feature_convq(x), self.feature_convk(x).flatten(2)
        maps = []
        for cells, valid in self.correlated(templates):
            products = (gather(query, cells) * valid[..., None]) @ key
            maps.append(self.corr_conv(products.view(x.shape[0], -1, *x.shape[2:])))
        return self.corr_fusion(*maps)

    def correlated(self, templates: Templates) -> list[tuple[Tensor, Tensor]]:
        """List the templates to correlate with, by sign: cells (b, k), and whether they are valid, bool (b, k)."""
        groups = [(templates.positive, templates.positive_valid)]
        if self.config.correlation_negatives:
            groups.append((templates.negative, templates.negative_valid))
        return groups

    def attend(self, x: Tensor, templates: Templates) -> Tensor:
        """Add to every cell its attention over the templates."""
        cells, valid = [templates.positive], [templates.positive_valid]
        if self.config.attention_negatives:
            cells, valid = [*cells, templates.negative], [*valid, templates.negative_valid]
        keys, usable = gather(x, torch.cat(cells, 1)), torch.cat(valid, 1)
        found = usable.any(1)
        ignored = None
        # A graph cannot test whether all are usable; selected templates always are.
        partly = not self.config.template_selection if torch.compiler.is_compiling() else not bool(usable.all())
        if partly:
            ignored = ~(usable | ~found[:, None])  # a sample without templates attends to anything; dropped below
        queries = x.flatten(2).transpose(1, 2)
        result = self.look(queries, keys, ignored)
        if ignored is not None:
            result = result * found[:, None, None]
        return x + result.transpose(1, 2).view_as(x)

    def look(self, queries: Tensor, keys: Tensor, ignored: Tensor | None) -> Tensor:
        """Attend from queries (b, n, c) to keys (b, k, c), which are also the values, except those `ignored` (b, k)."""
        return self.cross_attention(queries, keys, keys, key_padding_mask=ignored, need_weights=False)[0]


def gather(x: Tensor, cells: Tensor) -> Tensor:
    """Return cells (b, k) of a map (b, c, h, w) as (b, k, c)."""
    return x.flatten(2).gather(2, cells[:, None].expand(-1, x.shape[1], -1)).transpose(1, 2)


def full(x: Tensor) -> Tensor:
    """Convert to float32, or keep a higher precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
