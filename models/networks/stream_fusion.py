"""Fusion of iCMFormer++'s two streams: by channels, by self-attention, or by a plain sum."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.networks.plain_vit import vit_blocks


class ChannelFusion(nn.Module):
    """Channel fusion module: 1x1, depthwise 3x3 and 1x1 convolutions beside a 1x1 shortcut, on both streams' channels.

    Paper: the structure; with biases, these layers have exactly its 2.96 M parameters. Ours: no norms, and a GELU after
    the first and after the depthwise convolution.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(2 * dim, dim, 1)
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.mix = nn.Conv2d(dim, dim, 1)
        self.shortcut = nn.Conv2d(2 * dim, dim, 1)

    def forward(self, recall: Tensor, exemplar: Tensor) -> Tensor:
        """Fuse two streams (b, gh, gw, dim) to one."""
        both = torch.cat([recall, exemplar], -1).permute(0, 3, 1, 2)
        x = F.gelu(self.depthwise(F.gelu(self.reduce(both))))
        return (self.mix(x) + self.shortcut(both)).permute(0, 2, 3, 1)


class SelfAttentionFusion(nn.Module):
    """An ablation of the paper, in our form: one block over the tokens of both streams, then the sum of the streams."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.blocks = vit_blocks(dim, heads, 1)

    def forward(self, recall: Tensor, exemplar: Tensor) -> Tensor:
        """Fuse two streams (b, gh, gw, dim) to one."""
        x = torch.cat([recall.flatten(1, 2), exemplar.flatten(1, 2)], 1)
        first, second = self.blocks[0](x).chunk(2, 1)
        return (first + second).view_as(recall)


class SumFusion(nn.Module):
    """The sum of the streams, as in iCMFormer, for a network without a fusion module (ours)."""

    def forward(self, recall: Tensor, exemplar: Tensor) -> Tensor:  # noqa: D102
        return recall + exemplar
