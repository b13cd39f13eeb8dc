"""iCMFormer++'s exemplar-informed module, which finds the places in the image that look like the exemplar.

See docs/PAPERS.md, iCMFormer++: exemplar-informed module. In the docstrings, "paper" marks choices of the paper and
"ours" choices that it leaves open.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.geometry import Box, expand
from models.networks.pretrained import copy_tensors

GuideBackbone = Literal["resnet18", "resnet50", "hrnet_w18"]
TAPS_SIDE = 7
"""Ours: an exemplar's features are pooled to at most 7 x 7, or padded to 49 values if there are fewer."""


class ExemplarGuide(nn.Module):
    """Convolve the image with crops of the exemplar; the responses become a guide for the queries.

    Paper: a CNN on the image and on crops at several scales, the crops' features as convolution kernels, a
    normalisation so that the exemplar itself does not dominate, a softmax along the exemplar's positions. Ours: crops
    of `crop_size`, one 3x3 projection for both, one response for each of the kernel's taps, a linear map of the
    responses to a token, the mean over scales.
    """

    def __init__(self, dim: int, backbone: GuideBackbone, crop_size: int, scales: tuple[float, ...]) -> None:
        super().__init__()
        import timm

        self.crop_size, self.scales = crop_size, scales
        # Only the last level, at stride 32. timm's HRNet keeps 0.4 M unused parameters of its other levels.
        self.backbone = timm.create_model(backbone, features_only=True, out_indices=(4,), pretrained=False)
        feature_info: Any = self.backbone.feature_info
        channels = feature_info.channels()[-1]
        self.proj = nn.Conv2d(channels, dim, 3, padding=1)
        self.taps = nn.Linear(TAPS_SIDE**2, dim)
        self.norm = nn.LayerNorm(dim)

    def features(self, image: Tensor) -> Tensor:
        """Compute features of normalised images or crops: (b, 3, h, w) -> (b, dim, h/32, w/32).

        Ours: a layer norm without weights over the channels, so that no position dominates by the size of its features.
        """
        x = self.proj(self.backbone(image)[-1])
        return F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2]).permute(0, 3, 1, 2)

    def forward(self, features: Tensor, image: Tensor, mask: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """Compute the guide for every token, (b, gh, gw, dim); it is zero for samples with an empty exemplar mask.

        `features` are those of the normalised `image` (b, 3, h, w); `mask` (b, 1, h, w) is the exemplar's.
        """
        if torch.compiler.is_exporting():  # a graph cannot test which samples have an exemplar: crop for all
            crops, found = crop_all(image, mask, self.scales, self.crop_size)
            return self.tokens(features, crops, grid_hw) * found[:, None, None, None]
        guide = features.new_zeros(len(features), *grid_hw, features.shape[1])
        boxes = {row: box for row, box in enumerate(mask_boxes(mask)) if box is not None}
        if not boxes:
            return guide
        hw = (mask.shape[2], mask.shape[3])
        crops = [self.crop(image[row], expand(box, s, 1, hw)) for row, box in boxes.items() for s in self.scales]
        rows = torch.tensor(list(boxes), device=features.device)
        tokens = self.tokens(features[rows], torch.stack(crops).unflatten(0, (len(boxes), -1)), grid_hw)
        return guide.index_copy(0, rows, tokens.to(guide.dtype))

    def tokens(self, features: Tensor, crops: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """Compute the guide (b, gh, gw, dim) for every token from crops (b, scales, 3, side, side)."""
        kernels = self.features(crops.flatten(0, 1))
        if max(kernels.shape[2:]) > TAPS_SIDE:
            kernels = F.adaptive_max_pool2d(kernels, TAPS_SIDE)
        tokens = self.respond(features, kernels.unflatten(0, (-1, len(self.scales))))
        tokens = F.interpolate(tokens.permute(0, 3, 1, 2), size=grid_hw, mode="bilinear", align_corners=False)
        return tokens.permute(0, 2, 3, 1)

    def crop(self, image: Tensor, box: Box) -> Tensor:
        """Cut a box out of (3, h, w) and resize it to `crop_size`."""
        part = image[(slice(None), *box.slices())][None]
        return F.interpolate(part, size=(self.crop_size,) * 2, mode="bilinear", align_corners=False, antialias=True)[0]

    def respond(self, features: Tensor, kernels: Tensor) -> Tensor:
        """Compute tokens (b, h, w, dim) from image features (b, c, h, w) and kernels (b, scales, c, kh, kw)."""
        responses = tap_responses(features, kernels) / features.shape[1] ** 0.5
        # Without this the exemplar itself, which matches its crop exactly, dominates every other object.
        responses = F.instance_norm(responses.flatten(0, 1)).unflatten(0, responses.shape[:2])
        along_taps = responses.softmax(2).permute(0, 1, 3, 4, 2)
        along_taps = F.pad(along_taps, (0, TAPS_SIDE**2 - along_taps.shape[-1]))
        return self.norm(self.taps(along_taps)).mean(1)

    def load_backbone(self, state: dict[str, Tensor]) -> list[str]:
        """Load timm's ImageNet weights of the same CNN; returns the names, within the CNN, of the tensors set."""
        wanted = {name: name for name in self.backbone.state_dict()}
        return copy_tensors(self.backbone, state, wanted, what="CNN")


def mask_boxes(mask: Tensor) -> list[Box | None]:
    """Return the bounding box of each mask of (b, 1, h, w); None for an empty mask."""
    inside = mask[:, 0] > 0.5
    rows, columns = inside.any(2).int(), inside.any(1).int()
    ends = [rows.any(1).int()]
    for line in (rows, columns):
        ends += [line.argmax(1), line.shape[1] - 1 - line.flip(1).argmax(1)]
    return [Box(*box) if found else None for found, *box in torch.stack(ends, 1).tolist()]


def crop_all(image: Tensor, mask: Tensor, scales: tuple[float, ...], side: int) -> tuple[Tensor, Tensor]:
    """Crop every exemplar at every scale with tensor operations only; same as `crop` up to float rounding.

    Cropping and antialiased resizing are one linear map of the rows and one of the columns. Returns the crops
    (b, scales, 3, side, side) and whether each sample has an exemplar, (b,); other samples' crops are meaningless.
    """
    inside = mask[:, 0] > 0.5
    lines = (inside.any(2), inside.any(1))
    rows, columns = (resize_weights(line.int(), scales, side)[:, :, None] for line in lines)
    return rows @ image[:, None] @ columns.transpose(-1, -2), lines[0].any(1)


def resize_weights(line: Tensor, scales: tuple[float, ...], side: int) -> Tensor:
    """Return weights (b, scales, side, n) that crop each line (b, n) to its scaled nonzero part and resize to `side`.

    The crop is that of `geometry.expand`. Resizing is bilinear with antialiasing: a triangle as wide as a target pixel.
    """
    length = line.shape[1]
    low, high = line.argmax(1)[:, None].double(), (length - 1 - line.flip(1).argmax(1))[:, None].double()
    half = 0.5 * (torch.tensor(scales, dtype=torch.float64, device=line.device) * (high - low + 1)).clamp(min=1)
    centre = 0.5 * (low + high)
    start = (centre - half).round().clamp(min=0).float()[..., None, None]  # (b, scales, 1, 1)
    stop = (centre + half).round().clamp(max=length - 1).float()[..., None, None]
    step = (stop - start + 1) / side
    target = (torch.arange(side, device=line.device)[:, None] + 0.5) * step
    place = torch.arange(length, device=line.device) - start
    weights = (1 - (place + 0.5 - target).abs() / step.clamp(min=1)).clamp(min=0)
    weights = weights * ((place >= 0) & (place <= stop - start))
    return weights / weights.sum(-1, keepdim=True)


def tap_responses(features: Tensor, kernels: Tensor) -> Tensor:
    """Convolve, but keep the taps separate: (b, c, h, w) and (b, s, c, kh, kw) -> (b, s, kh * kw, h, w).

    The sum over the taps is an ordinary convolution ("same" zero padding) of image b with kernel (b, s).
    """
    height, width = features.shape[2:]
    kh, kw = kernels.shape[3:]
    products = torch.einsum("bchw,bsckl->bsklhw", features, kernels)
    top, left = (kh - 1) // 2, (kw - 1) // 2
    products = F.pad(products, (left, kw - 1 - left, top, kh - 1 - top))
    shifted = [
        products[:, :, row, column, row : row + height, column : column + width]
        for row in range(kh)
        for column in range(kw)
    ]
    return torch.stack(shifted, 2)
