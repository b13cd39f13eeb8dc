"""What every network is: image, previous mask and clicks in, mask logits out, and what it wants of its input."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from models.click_maps import ClickBatch
from models.geometry import SizeRule

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a network takes; refinements read this, never a class name."""

    size: SizeRule
    """Size of a whole image before it goes in."""
    zoom_size: SizeRule
    """Size of a zoomed-in crop before it goes in."""
    prev_mask: Literal["probability", "binary", "unused"] = "probability"


@dataclass(frozen=True, eq=False)
class Output:
    """Logits (b, 1, h, w) at the input's size, before the sigmoid; `aux_logits` where a network has an aux head."""

    mask_logits: Tensor
    aux_logits: Tensor | None = None


class NetworkConfig(Protocol):
    """A frozen dataclass of everything that decides a network's shape."""

    def build(self) -> "Network":
        """Build the network with fresh weights."""
        ...


class Network(nn.Module):
    """Base of all networks; `config` and `name` travel into the checkpoint."""

    traits: Traits
    config: Any
    name: str = ""
    image_mean: Tensor
    image_std: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Not in the checkpoint: constants.
        self.register_buffer("image_mean", torch.tensor(IMAGE_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("image_std", torch.tensor(IMAGE_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> Output:
        """Segment: `image` (b, 3, h, w) RGB in 0..1, `prev_mask` (b, 1, h, w) probability."""
        raise NotImplementedError

    def normalise(self, image: Tensor) -> Tensor:
        """Subtract the ImageNet mean and divide by its deviation."""
        return (image - self.image_mean) / self.image_std

    def fit_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adapt weights that were saved for another input size (positional embeddings)."""
        return state
