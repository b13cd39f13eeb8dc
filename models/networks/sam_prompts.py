"""SAM's prompt encoder: clicks, a box and low-resolution logits as tokens and maps (Kirillov et al. 2023, appendix A).

SAM, MobileSAM and SAM 2 share the arithmetic; they differ in the order of tokens and in when a padding token is added.
Modules have the authors' names.
"""

import math
from typing import Any, NamedTuple

import torch
from timm.layers import LayerNorm2d  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor, nn

from models.click_maps import ClickBatch

DIM = 256
PAD, NEGATIVE, POSITIVE, TOP_LEFT, BOTTOM_RIGHT = range(-1, 4)
"""Labels of positions, which index `point_embeddings`; `PAD` has no position."""


class Prompts(NamedTuple):
    """Positions from which tokens are made: `xy` (b, n, 2) in pixels, `labels` long (b, n), `counts` bool (b, n).

    Rows with `counts` False only pad the batch.
    """

    xy: Tensor
    labels: Tensor
    counts: Tensor


class Places(nn.Module):
    """Encode positions as the sine and cosine of random Fourier features (Tancik et al. 2020).

    The matrix is drawn once, when a network is first trained, and never changes, since the decoder depends on it.
    """

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, DIM // 2))

    def forward(self, xy: Tensor) -> Tensor:
        """Encode positions (..., 2), x and y as fractions of the frame's side, to (..., 256)."""
        # In float32 even under autocast: half precision moves logits by a fifth of their standard deviation.
        with torch.autocast(xy.device.type, enabled=False):
            angles = 2 * math.pi * ((2 * xy.float() - 1) @ self.positional_encoding_gaussian_matrix.float())
            return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def grid(self, hw: tuple[int, int], side: float) -> Tensor:
        """Encode the centres of the first h x w of side x side cells to (1, 256, h, w)."""
        device = self.positional_encoding_gaussian_matrix.device
        y, x = torch.meshgrid(*((torch.arange(num, device=device) + 0.5) / side for num in hw), indexing="ij")
        return self(torch.stack([x, y], dim=-1)).permute(2, 0, 1)[None]


class PromptEncoder(nn.Module):
    """Encode clicks and boxes as tokens, and low-resolution logits as a map.

    `corners_first` and `always_pad` are set by SAM 2: a box comes before the clicks, and there is a padding token even
    beside a box.
    """

    def __init__(self, *, corners_first: bool = False, always_pad: bool = False) -> None:
        super().__init__()
        self.corners_first, self.always_pad = corners_first, always_pad
        self.pe_layer = Places()
        self.point_embeddings: Any = nn.ModuleList([nn.Embedding(1, DIM) for _ in range(4)])
        self.not_a_point_embed = nn.Embedding(1, DIM)
        self.no_mask_embed = nn.Embedding(1, DIM)
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, 4, 2, stride=2),
            LayerNorm2d(4),
            nn.GELU(),
            nn.Conv2d(4, 16, 2, stride=2),
            LayerNorm2d(16),
            nn.GELU(),
            nn.Conv2d(16, DIM, 1),
        )

    def rows(self, clicks: ClickBatch, boxes: Tensor | None = None) -> Prompts:
        """Return clicks and `boxes` (b, 4: x0, y0, x1, y1; NaN: none) as labelled positions, in the order of tokens."""
        labels = torch.where(clicks.positive, POSITIVE, NEGATIVE)
        parts = [Prompts(clicks.yx.flip(-1), labels, clicks.valid)]
        padded = torch.ones_like(clicks.valid[:, :1])
        if boxes is not None:
            given = boxes.isfinite().all(1, keepdim=True)
            corners = labels.new_tensor([TOP_LEFT, BOTTOM_RIGHT]).expand(len(boxes), -1)
            box = Prompts(boxes.nan_to_num().view(-1, 2, 2), corners, given.expand(-1, 2))
            parts.insert(0 if self.corners_first else 1, box)
            padded = padded if self.always_pad else ~given
        pad = labels.new_full((len(labels), 1), PAD)
        parts.append(Prompts(clicks.yx.new_zeros(len(labels), 1, 2), pad, padded))
        return Prompts(*(torch.cat(column, dim=1) for column in zip(*parts, strict=True)))

    def tokens(self, xy: Tensor, labels: Tensor, side: int) -> Tensor:
        """Return tokens (b, n, 256) for positions `xy` (b, n, 2), in pixels of a frame of side x side, and labels.

        Half a pixel is added to every position, as in the authors' code; padding has no position.
        """
        kinds = torch.cat([kind.weight for kind in self.point_embeddings])
        placed = self.pe_layer((xy + 0.5) / side) + kinds[labels.clamp(min=0)]
        return torch.where((labels == PAD)[..., None], self.not_a_point_embed.weight, placed)

    def mask_map(self, low_logits: Tensor | None, grid: tuple[int, int]) -> Tensor:
        """Return the map (b or 1, 256, *grid) to add to an image's embedding.

        `low_logits` (b, 1, 4 times the grid) are those of the last answer; None if there was no answer.
        """
        if low_logits is None:
            return self.no_mask_embed.weight.view(1, DIM, 1, 1).expand(-1, -1, *grid)
        return self.mask_downscaling(low_logits)
