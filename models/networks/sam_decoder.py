"""SAM's mask decoder: a two-way transformer between prompt tokens and an image's embedding (Kirillov et al. 2023, A).

SAM 2 (Ravi et al. 2024) adds a token that predicts whether there is an object, and features of finer scales. Modules
have SAM's names.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d  # pyright: ignore[reportPrivateImportUsage]
from torch import Tensor, nn

from models.networks.sam_prompts import DIM

NUM_MASKS = 4
"""Mask 0 is for several prompts; masks 1 to 3 are the candidates for a single, ambiguous prompt."""
HEADS = 8


class Masks(NamedTuple):
    """`low_logits` (b, 4, 4 h, 4 w) of the four masks, and `quality`, their predicted IoUs, (b, 4)."""

    low_logits: Tensor
    quality: Tensor


class MaskDecoder(nn.Module):
    """Decode masks from prompt tokens and an image's embedding.

    `fine_widths`, the channels of an encoder's maps at strides 8 and 4, and `object_token` are SAM 2's. `details` is
    ours: it computes a change of the features at stride 4 from these features and `maps` of the clicks.
    """

    def __init__(
        self,
        *,
        fine_widths: tuple[int, int] | None = None,
        object_token: bool = False,
        details: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer()
        self.iou_token = nn.Embedding(1, DIM)
        self.mask_tokens = nn.Embedding(NUM_MASKS, DIM)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(DIM, DIM // 4, 2, stride=2),
            LayerNorm2d(DIM // 4),
            nn.GELU(),
            nn.ConvTranspose2d(DIM // 4, DIM // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList([Perceptron(DIM // 8) for _ in range(NUM_MASKS)])
        self.iou_prediction_head = Perceptron(NUM_MASKS)
        self.obj_score_token = nn.Embedding(1, DIM) if object_token else None
        self.pred_obj_score_head = Perceptron(1) if object_token else None
        self.conv_s0 = nn.Conv2d(fine_widths[1], DIM // 8, 1) if fine_widths else None
        self.conv_s1 = nn.Conv2d(fine_widths[0], DIM // 4, 1) if fine_widths else None
        self.details = details

    def forward(
        self,
        embedding: Tensor,
        codes: Tensor,
        mask_map: Tensor,
        tokens: Tensor,
        counts: Tensor,
        fine: tuple[Tensor, Tensor] | None = None,
        maps: Tensor | None = None,
    ) -> Masks:
        """Decode four masks; `embedding`, `codes` and `mask_map` are (b or 1, 256, h, w).

        `tokens` are (b, n, 256); `counts` bool (b, n) is False for padding. `fine` (SAM 2) holds maps of 64 channels at
        twice and of 32 channels at four times the grid.
        """
        first = [] if self.obj_score_token is None else [self.obj_score_token.weight]
        own = torch.cat([*first, self.iou_token.weight, self.mask_tokens.weight])[None].expand(len(tokens), -1, -1)
        place = len(first)
        counts = torch.cat([counts.new_ones(len(counts), own.shape[1]), counts], dim=1)
        out, image = self.transformer(embedding + mask_map, codes, torch.cat([own, tokens], dim=1), counts)
        quality = self.iou_prediction_head(out[:, place])
        quality = quality if self.pred_obj_score_head is None else quality.sigmoid()
        features = self._upscaled(image, fine)
        if self.details is not None:
            features = features + self.details(features, maps)
        kernels = [mlp(out[:, place + 1 + k]) for k, mlp in enumerate(self.output_hypernetworks_mlps)]
        low_logits = torch.einsum("bkc,bchw->bkhw", torch.stack(kernels, dim=1), features)
        return Masks(low_logits, quality)

    def fine_maps(self, second: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """Narrow the maps at strides 8 and 4 (SAM 2) to 64 and 32 channels, once per image and not once per prompt."""
        assert self.conv_s0 is not None
        assert self.conv_s1 is not None
        return self.conv_s1(second), self.conv_s0(first)

    def _upscaled(self, image: Tensor, fine: tuple[Tensor, Tensor] | None) -> Tensor:
        up1, norm, act, up2, act2 = self.output_upscaling
        if fine is None:
            return act2(up2(act(norm(up1(image)))))
        return act2(up2(act(norm(up1(image) + fine[0]))) + fine[1])


class TwoWayTransformer(nn.Module):
    """Two layers in which tokens attend to the image and the image to tokens, then a last attention of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([TwoWayLayer(first=number == 0) for number in range(2)])
        self.final_attn_token_to_image = Attention(DIM // 2)
        self.norm_final_attn = nn.LayerNorm(DIM)

    def forward(self, image: Tensor, codes: Tensor, tokens: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the new tokens (b, n, 256) and image (b, 256, g, g).

        The inputs (the cells' position codes and all tokens) are added to queries and keys everywhere, never to values.
        """
        hw = image.shape[2:]
        cells, places = (x.flatten(2).transpose(1, 2) for x in (image, codes))
        cells = cells.expand(len(tokens), -1, -1)
        # Padding tokens are masked as keys; without padding, as in a batch of one, there is nothing to mask.
        exporting = torch.compiler.is_compiling() or torch.compiler.is_exporting()
        keys = None if not exporting and bool(counts.all()) else counts[:, None, None, :]
        out = tokens
        for layer in self.layers:
            out, cells = layer(out, cells, tokens, places, keys)
        out = self.norm_final_attn(out + self.final_attn_token_to_image(out + tokens, cells + places, cells))
        return out, cells.transpose(1, 2).unflatten(2, hw)


class TwoWayLayer(nn.Module):
    """Self-attention, tokens to image, an MLP, image to tokens; each followed by its norm."""

    def __init__(self, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = Attention(DIM)
        self.norm1 = nn.LayerNorm(DIM)
        self.cross_attn_token_to_image = Attention(DIM // 2)
        self.norm2 = nn.LayerNorm(DIM)
        self.mlp = nn.ModuleDict({"lin1": nn.Linear(DIM, 8 * DIM), "lin2": nn.Linear(8 * DIM, DIM)})
        self.norm3 = nn.LayerNorm(DIM)
        self.cross_attn_image_to_token = Attention(DIM // 2)
        self.norm4 = nn.LayerNorm(DIM)

    def forward(
        self, tokens: Tensor, cells: Tensor, tokens_in: Tensor, places: Tensor, keys: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Update tokens and the image's cells; `keys` marks the tokens that may be attended to (None: all)."""
        if self.first:  # without codes and residual, since the tokens are the inputs themselves
            tokens = self.norm1(self.self_attn(tokens, tokens, tokens, keys))
        else:
            asking = tokens + tokens_in
            tokens = self.norm1(tokens + self.self_attn(asking, asking, tokens, keys))
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + tokens_in, cells + places, cells))
        tokens = self.norm3(tokens + self.mlp["lin2"](F.relu(self.mlp["lin1"](tokens))))
        cells = self.norm4(cells + self.cross_attn_image_to_token(cells + places, tokens + tokens_in, tokens, keys))
        return tokens, cells


class Attention(nn.Module):
    """Attention with 8 heads, which projects its inputs to `width` and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(DIM, width) for _ in range(3))
        self.out_proj = nn.Linear(width, DIM)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor | None = None) -> Tensor:
        """Attend from q (b, n, 256) to k and v (b, m, 256); `keys` bool (b, 1, 1, m) is False for masked keys."""
        q, k, v = (
            project(x).unflatten(2, (HEADS, -1)).transpose(1, 2)
            for project, x in ((self.q_proj, q), (self.k_proj, k), (self.v_proj, v))
        )
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=keys)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    """Three linear layers, 256 wide, with ReLU between them."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(DIM, DIM), nn.Linear(DIM, DIM), nn.Linear(DIM, outputs)])

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., 256) to (..., outputs)."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)
