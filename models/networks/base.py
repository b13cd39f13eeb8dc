"""What every network is: image, previous mask and clicks in, mask logits out, and what it wants of its input."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.click_maps import ClickBatch
from models.errors import InputError
from models.geometry import SizeRule
from models.resampling import Resampling

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
    multiple: int = 1
    """Both sides of a view must be multiples of this."""
    split: bool = False
    """Has a heavy first-click half and a light correction half (SplitNetwork)."""
    exemplar: bool = False
    """Takes a finished object as an example of what to find."""
    starts: bool = False
    """A part of it that is worth keeping sees neither clicks nor previous mask (`Network.start`)."""
    prompted: bool = False
    """Its heavy half is `start` alone, and its light half takes clicks as prompts (PromptNetwork)."""
    resampling: Resampling = "corners"
    """How pixels become a view, and logits an image."""


@dataclass(frozen=True, eq=False)
class Output:
    """Logits (b, 1, h, w) at the input's size, before the sigmoid.

    `aux_logits` where a network has an aux head; `base_logits`, before correction, where it is split. Of a network that
    offers several masks, `candidates` are the logits (b, k, h, w) of those that a sample of the batch may be shown,
    `quality` (b, k) the IoUs that it predicts of them, and `offered` bool (b, k) whether the sample may be shown it.
    `carry` is what its next look at this view may be given.
    """

    mask_logits: Tensor
    aux_logits: Tensor | None = None
    base_logits: Tensor | None = None
    candidates: Tensor | None = None
    quality: Tensor | None = None
    offered: Tensor | None = None
    carry: dict[str, Any] = field(default_factory=dict)


Started = tuple[Tensor, ...]
"""What a network made of its views before it was shown a click; each tensor (b, ...)."""


class NetworkConfig(Protocol):
    """A frozen dataclass of everything that decides a network's shape."""

    def build(self) -> "Network":
        """Build the network with fresh weights."""
        ...


class Network(nn.Module):
    """Base of all networks; `config` and `name` travel into the checkpoint.

    What trains, shards or prepares a network asks it for its parts (`blocks` to `fresh`) and knows none by name. Only
    batch norms need no mention: what a module names after a convolution follows it (models.inference folds it).
    """

    entry_points: ClassVar[tuple[str, ...]] = ("start", "focus_view")
    """Methods beside `forward` that are called from outside: around each FSDP gathers the shards."""
    traits: Traits
    config: Any
    name: str = ""
    prepared: str = ""
    """Set by models.inference.prepare: such a network cannot be saved."""
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

    def focus_view(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> Output:
        """Segment a close-up around a click: `forward`, unless a network has weights of its own for it (FocusCut)."""
        return self(image, prev_mask, clicks)

    def start(self, image: Tensor) -> Started:
        """Run what neither clicks nor previous mask change (`traits.starts`), of the exemplar too where there is one.

        `forward`, or `encode` of a split network, takes the result as `started` and answers the very same with it.
        """
        raise NotImplementedError

    def conditional(self) -> Sequence[nn.Module]:
        """List the parts that not every forward reaches: whose weights a training step may leave without gradient."""
        return ()

    def normalise(self, image: Tensor) -> Tensor:
        """Subtract the mean of the pixels and divide by their deviation: what every network does first with a view.

        Raises InputError for a view whose sides are no multiples of `traits.multiple`.
        """
        hw, multiple = (image.shape[2], image.shape[3]), self.traits.multiple
        if multiple > 1 and any(side % multiple for side in hw):
            raise InputError(f"the view is {hw}: this network takes sides that are multiples of {multiple}")
        return (image - self.image_mean) / self.image_std

    def blocks(self) -> Sequence[nn.Module]:
        """List the blocks that a network is a row of, or several: each can be computed again, or sharded, by itself."""
        return ()

    def layers(self) -> Sequence[tuple[str, ...]]:
        """List the layers of a pre-trained backbone from the input on, each by how its parameters' names begin.

        A parameter is in the first layer that fits. Empty where the backbone is no row of layers.
        """
        return ()

    def positions(self) -> Sequence[nn.Parameter]:
        """List the positional embeddings of `layers`, which weight decay spares."""
        return ()

    def click_embedding(self) -> Sequence[nn.Module]:
        """List what embeds clicks beside the patches of a pre-trained backbone."""
        return ()

    def pretrained_parts(self) -> Sequence[nn.Module]:
        """List a pre-trained backbone that is no row of `layers`: it learns by one part of the rate."""
        return ()

    def float32_parts(self) -> Sequence[nn.Module]:
        """List the parts that stay float32 where the rest is prepared in half precision."""
        return ()

    def fresh(self) -> Sequence[str]:
        """List what a network has beside the weights that it starts from, by how its parameters' names begin."""
        return ()

    def fit_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adapt weights that were saved for another input size (positional embeddings)."""
        return state

    def load_backbone(self, state: dict[str, Tensor]) -> list[str]:
        """Start from a backbone that was trained for something else; returns the names of our tensors that were set.

        Raises InputError naming what is missing or of another shape, or that there is no such start: then nothing was
        copied.
        """
        raise InputError(f"network {self.name or type(self).__name__} has no backbone that starts from others' weights")


@dataclass(frozen=True, eq=False)
class Encoded:
    """What the heavy half leaves for corrections, in a quarter of the view's size: `features` and `low_logits`.

    The low-resolution logits are replaced by those of each correction; `aux_logits` matter to training only.
    """

    features: Tensor
    low_logits: Tensor
    aux_logits: Tensor | None = None


class SplitNetwork(Network):
    """A network whose corrections do not run its heavy half again (EMC-Click)."""

    entry_points = (*Network.entry_points, "encode", "correct")

    def encode(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> Encoded:
        """Run the heavy half; of `clicks` it sees the first ones only (`ClickBatch.first`)."""
        raise NotImplementedError

    def correct(self, image: Tensor, features: Tensor, low_logits: Tensor, clicks: ClickBatch) -> tuple[Tensor, Tensor]:
        """Run the light half on all clicks so far: (logits (b, 1, h, w), the new low-resolution logits)."""
        raise NotImplementedError

    def forward(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch, low_logits: Tensor | None = None) -> Output:
        """Encode and correct once; from `low_logits` of earlier corrections instead of the fresh ones, if given."""
        return self._corrected(image, self.encode(image, prev_mask, clicks), clicks, low_logits)

    def _corrected(self, image: Tensor, encoded: Encoded, clicks: ClickBatch, low_logits: Tensor | None) -> Output:
        start = encoded.low_logits if low_logits is None else low_logits.detach()
        logits, _ = self.correct(image, encoded.features, start, clicks)
        hw = (image.shape[2], image.shape[3])
        aux = None if encoded.aux_logits is None else upsample(encoded.aux_logits, hw)
        return Output(logits, aux_logits=aux, base_logits=upsample(encoded.low_logits, hw))


class PromptNetwork(Network):
    """A network whose heavy half, `start`, sees no click, and whose light half answers clicks as prompts (SAM)."""

    def encode_once(self, image: Tensor) -> Started:
        """Run what `forward` takes as `encoded`, on views (b, 3, h, w); of neighbours that are the same only once."""
        raise NotImplementedError

    def heavy_parts(self) -> Sequence[nn.Module]:
        """List the parts that `start` runs."""
        raise NotImplementedError

    def prompt(
        self,
        started: Started,
        hw: tuple[int, int],
        clicks: ClickBatch,
        low_logits: Tensor | None = None,
        prev_mask: Tensor | None = None,
        boxes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Answer all clicks so far on a view of size `hw`: (logits (b, 1, *, *) over the view, low-resolution logits).

        The latter go back in as `low_logits` with the next click. Where there are none, the clicks correct `prev_mask`
        (b, 1, h, w) in 0..1, unless it is empty. `boxes` (b, 4): x0, y0, x1, y1 in the view; NaN for no box.
        """
        raise NotImplementedError


def upsample(x: Tensor, hw: tuple[int, int]) -> Tensor:
    """Resize (b, c, h, w) bilinearly, align_corners True, as the published networks resize their logits."""
    return x if tuple(x.shape[2:]) == tuple(hw) else F.interpolate(x, size=hw, mode="bilinear", align_corners=True)
