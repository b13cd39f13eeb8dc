"""Resize pixels to a view and logits back to the image, in the ways with which networks were trained."""

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

Resampling = Literal["corners", "half_pixel", "half_pixel_uint8"]
"""`corners`: bilinear with aligned corners; probabilities are resized back (RITM and its descendants). `half_pixel`:
bilinear between pixel centres, antialiased when shrinking; logits are resized back (SAM 2). `half_pixel_uint8`: the
same on pixels rounded to bytes, as Pillow does (SAM)."""


def resize(x: Tensor, hw: tuple[int, int], how: Resampling = "corners") -> Tensor:
    """Resize maps (c, h, w) of any values bilinearly, without antialiasing."""
    if tuple(x.shape[1:]) == tuple(hw):
        return x
    return F.interpolate(x[None], size=tuple(hw), mode="bilinear", align_corners=how == "corners")[0]


def resize_pixels(pixels: Tensor, hw: tuple[int, int], how: Resampling = "corners") -> Tensor:
    """Resize pixels (3, h, w) in 0..1 to a view of size `hw`."""
    if how == "corners" or tuple(pixels.shape[1:]) == tuple(hw):
        return resize(pixels, hw, how)
    if how == "half_pixel":
        return F.interpolate(pixels[None], size=hw, mode="bilinear", antialias=True)[0]
    whole = (pixels * 255).round().to("cpu", torch.uint8).permute(1, 2, 0)
    # torch's resizing of bytes is off by one in one of ten thousand pixels, which changes masks.
    view = Image.fromarray(whole.numpy()).resize((hw[1], hw[0]), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(view)).to(pixels.device, pixels.dtype).permute(2, 0, 1) / 255


def to_image(logits: Tensor, hw: tuple[int, int], how: Resampling = "corners") -> Tensor:
    """Convert a view's logits (1, *, *) to probabilities (1, *hw) of the image."""
    if how == "corners":
        return resize(torch.sigmoid(logits), hw)
    return torch.sigmoid(resize(logits, hw, how))
