"""Interfaces of networks, which map an image, a previous mask and clicks to mask logits, and their traits."""

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
    """Input that a network takes; refinements read these traits and never a class name."""

    size: SizeRule
    """Size of the network's view of a whole image."""
    zoom_size: SizeRule
    """Size of the network's view of a zoomed-in crop."""
    prev_mask: Literal["probability", "binary", "unused"] = "probability"
    multiple: int = 1
    """Both sides of a view must be multiples of this."""
    split: bool = False
    """Whether it has a heavy first-click half and a light correction half (SplitNetwork)."""
    exemplar: bool = False
    """Whether it takes a finished object as an example of what to find."""
    starts: bool = False
    """Whether a part that is worth caching needs neither clicks nor previous mask (`Network.start`)."""
    prompted: bool = False
    """Whether its heavy half is `start` alone and its light half takes clicks as prompts (PromptNetwork)."""
    resampling: Resampling = "corners"
    """How pixels are resized to a view and logits back to the image."""


@dataclass(frozen=True, eq=False)
class Output:
    """Output of a network: `mask_logits` (b, 1, h, w) at the input's size, before the sigmoid.

    Networks with an auxiliary head set `aux_logits`; split networks set `base_logits`, the logits before correction.
    Networks with several masks set `candidates`, the logits (b, k, h, w) of masks that at least one sample may get,
    `quality`, their predicted IoUs (b, k), and `offered` bool (b, k), whether the sample may get the mask. `carry`
    holds keyword arguments for the next forward on the same view.
    """

    mask_logits: Tensor
    aux_logits: Tensor | None = None
    base_logits: Tensor | None = None
    candidates: Tensor | None = None
    quality: Tensor | None = None
    offered: Tensor | None = None
    carry: dict[str, Any] = field(default_factory=dict)


Started = tuple[Tensor, ...]
"""Click-independent features of views, from `Network.start`; each tensor (b, ...)."""


class NetworkConfig(Protocol):
    """A frozen dataclass of everything that determines a network's shape."""

    def build(self) -> "Network":
        """Build the network with fresh weights."""
        ...


class Network(nn.Module):
    """Base of all networks; `config` and `name` are stored in the checkpoint.

    Code that trains, shards or prepares a network gets its parts from the methods `blocks` to `fresh` and knows none by
    name. Batch norms need no such method: models.inference folds the one that a module defines after a convolution.
    """

    entry_points: ClassVar[tuple[str, ...]] = ("start", "focus_view")
    """Methods beside `forward` that are called from outside; FSDP gathers the shards around each."""
    traits: Traits
    config: Any
    name: str = ""
    prepared: str = ""
    """Precision set by models.inference.prepare; a prepared network cannot be saved."""
    image_mean: Tensor
    image_std: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Constants, which the checkpoint does not store.
        self.register_buffer("image_mean", torch.tensor(IMAGE_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("image_std", torch.tensor(IMAGE_STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> Output:
        """Segment views: `image` (b, 3, h, w) is RGB in 0..1, `prev_mask` (b, 1, h, w) probabilities."""
        raise NotImplementedError

    def focus_view(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> Output:
        """Segment a close-up around a click; same as `forward` unless the network has separate weights (FocusCut)."""
        return self(image, prev_mask, clicks)

    def start(self, image: Tensor) -> Started:
        """Compute the features that depend on neither clicks nor previous mask (if `traits.starts`).

        Networks that take an exemplar include its features. `forward`, or `encode` of a split network, accepts the
        result as `started` and returns the same output with it.
        """
        raise NotImplementedError

    def conditional(self) -> Sequence[nn.Module]:
        """List the parts that some forwards skip, so that a training step may leave their weights without gradient."""
        return ()

    def normalise(self, image: Tensor) -> Tensor:
        """Normalise a view by the mean and standard deviation of its pixels, the first operation of every network.

        Raises InputError for a view whose sides are not multiples of `traits.multiple`.
        """
        hw, multiple = (image.shape[2], image.shape[3]), self.traits.multiple
        if multiple > 1 and any(side % multiple for side in hw):
            raise InputError(f"the view is {hw}: this network takes only sides that are multiples of {multiple}")
        return (image - self.image_mean) / self.image_std

    def blocks(self) -> Sequence[nn.Module]:
        """List the blocks, in one or several sequences; each can be recomputed or sharded separately."""
        return ()

    def layers(self) -> Sequence[tuple[str, ...]]:
        """List the layers of a pre-trained backbone from the input on, each as prefixes of its parameters' names.

        A parameter belongs to the first layer that matches. Empty if the backbone is not a sequence of layers.
        """
        return ()

    def positions(self) -> Sequence[nn.Parameter]:
        """List the positional embeddings of `layers`, which get no weight decay."""
        return ()

    def click_embedding(self) -> Sequence[nn.Module]:
        """List the modules that embed clicks, beside the patch embedding of a pre-trained backbone."""
        return ()

    def pretrained_parts(self) -> Sequence[nn.Module]:
        """List the parts of a pre-trained backbone without `layers`; all of it learns with one reduced rate."""
        return ()

    def float32_parts(self) -> Sequence[nn.Module]:
        """List the parts that stay float32 when the network is prepared in half precision."""
        return ()

    def fresh(self) -> Sequence[str]:
        """List the parameters that its initial weights do not contain, as prefixes of their names."""
        return ()

    def fit_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Adapt weights that were saved for another input size (positional embeddings)."""
        return state

    def load_backbone(self, state: dict[str, Tensor]) -> list[str]:
        """Load a backbone that was pre-trained for another task; returns the names of the tensors that were set.

        Raises InputError, before anything is copied, if tensors are missing or have another shape, or if the network
        has no such backbone.
        """
        raise InputError(
            f"network {self.name or type(self).__name__} has no backbone that can load pre-trained weights"
        )


@dataclass(frozen=True, eq=False)
class Encoded:
    """Output of the heavy half, at a quarter of the view's size: `features` and `low_logits` for corrections.

    Each correction replaces the low-resolution logits. `aux_logits` are used in training only.
    """

    features: Tensor
    low_logits: Tensor
    aux_logits: Tensor | None = None


class SplitNetwork(Network):
    """A network whose corrections do not run its heavy half again (EMC-Click)."""

    entry_points = (*Network.entry_points, "encode", "correct")

    def encode(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch) -> Encoded:
        """Run the heavy half, which sees only the first of the `clicks` (`ClickBatch.first`)."""
        raise NotImplementedError

    def correct(self, image: Tensor, features: Tensor, low_logits: Tensor, clicks: ClickBatch) -> tuple[Tensor, Tensor]:
        """Run the light half on all clicks so far; returns (logits (b, 1, h, w), the new low-resolution logits)."""
        raise NotImplementedError

    def forward(self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch, low_logits: Tensor | None = None) -> Output:
        """Encode and correct once; `low_logits` of an earlier correction, if given, replace the new ones."""
        return self._corrected(image, self.encode(image, prev_mask, clicks), clicks, low_logits)

    def _corrected(self, image: Tensor, encoded: Encoded, clicks: ClickBatch, low_logits: Tensor | None) -> Output:
        start = encoded.low_logits if low_logits is None else low_logits.detach()
        logits, _ = self.correct(image, encoded.features, start, clicks)
        hw = (image.shape[2], image.shape[3])
        aux = None if encoded.aux_logits is None else upsample(encoded.aux_logits, hw)
        return Output(logits, aux_logits=aux, base_logits=upsample(encoded.low_logits, hw))


class PromptNetwork(Network):
    """A network whose heavy half, `start`, sees no click, and whose light half takes clicks as prompts (SAM)."""

    def encode_once(self, image: Tensor) -> Started:
        """Encode views (b, 3, h, w) for `encoded` of `forward`; equal neighbouring views are encoded only once."""
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

        Pass the second result as `low_logits` with the next click. Without `low_logits`, the clicks correct `prev_mask`
        (b, 1, h, w) in 0..1 unless it is empty. `boxes` (b, 4) are x0, y0, x1, y1 in the view; NaN for no box.
        """
        raise NotImplementedError


def upsample(x: Tensor, hw: tuple[int, int]) -> Tensor:
    """Resize (b, c, h, w) bilinearly with aligned corners, as the published networks resize their logits."""
    return x if tuple(x.shape[2:]) == tuple(hw) else F.interpolate(x, size=hw, mode="bilinear", align_corners=True)
