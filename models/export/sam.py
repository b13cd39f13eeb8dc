"""The two graphs of SAM's family, by the names and meanings of the authors' export: web pages for SAM take them."""

from typing import Any

import torch
from torch import Tensor, nn

from models.export.graph import Graph, Port, Sizes
from models.geometry import LongSide
from models.networks.sam import Sam, is_first, pick
from models.networks.sam_encoders import PATCH
from models.networks.sam_prompts import BOTTOM_RIGHT, PAD, Prompts


def prompt_graphs(network: Sam) -> list[Graph]:
    """Take a network apart into `encoder`, of a frame, and `decoder`, of prompts for one image."""
    side, grid = network.config.side, network.config.side // PATCH
    encoder: Any = network.image_encoder
    for part in encoder.modules():
        if hasattr(part, "fused_attn"):  # timm's call of three dimensions has no translation
            part.fused_attn = False
    with torch.no_grad():
        started = network.encode_frame(torch.zeros(1, 3, side, side))
    # The finest map first, as the authors number them.
    order = [0, *range(len(started) - 1, 0, -1)]
    names = ["image_embeddings", *(f"high_res_{number}" for number in range(len(started) - 1))]
    kept = [
        Port(name=name, shape=("batch", *started[place].shape[1:]), meaning="what the encoder leaves for all prompts")
        for name, place in zip(names, order, strict=True)
    ]
    frame = Port(
        name="input", shape=("batch", 3, side, side),
        meaning="a frame: RGB less the ImageNet mean, divided by its deviation, " + FRAMES[network.traits.resampling],
    )  # fmt: skip
    points = (1, "num_points")
    inputs = (
        *(Port(name=port.name, shape=(1, *port.shape[1:]), meaning=port.meaning) for port in kept),
        Port(name="point_coords", shape=(*points, 2), meaning="x and y in pixels of the frame, without half a pixel"),
        Port(
            name="point_labels", shape=points,
            meaning="1 on the object, 0 not on it, 2 and 3 a box's first and last corner, -1 padding: exactly one "
            + ("always" if network.prompt_encoder.always_pad else "unless there is a box"),
        ),
        Port(name="mask_input", shape=(1, 1, 4 * grid, 4 * grid), meaning="low_res_masks of the last answer"),
        Port(name="has_mask_input", shape=(1,), meaning="1 if there is such an answer, 0 if not: mask_input is zeros"),
        Port(name="orig_im_size", shape=(2,), meaning="height and width of the image, in pixels"),
    )  # fmt: skip
    outputs = (
        Port(name="masks", shape=(1, 1, "image_height", "image_width"), meaning="logits: the object is where > 0"),
        Port(name="iou_predictions", shape=(1, 1), meaning="the IoU that the mask is predicted to have"),
        Port(name="low_res_masks", shape=(1, 1, 4 * grid, 4 * grid), meaning="mask_input of the next prompt"),
    )

    def draw_frame(sizes: Sizes, generator: torch.Generator) -> tuple[Tensor, ...]:
        return (torch.randn(sizes.batch, 3, side, side, generator=generator),)

    def draw_prompts(sizes: Sizes, generator: torch.Generator) -> tuple[Tensor, ...]:
        maps = [torch.randn(1, *started[place].shape[1:], generator=generator) for place in order]
        xy = torch.rand(1, sizes.clicks + 1, 2, generator=generator) * side
        labels = torch.randint(0, 2, (1, sizes.clicks + 1), generator=generator).float()
        labels[:, -1] = PAD
        low_logits = 8 * torch.randn(1, 1, 4 * grid, 4 * grid, generator=generator)
        fed = torch.tensor([float(sizes.clicks > 1)])
        return (*maps, xy, labels, low_logits * fed, fed, torch.tensor(sizes.hw, dtype=torch.float32))

    return [
        Graph(
            name="encoder", module=_Encoder(network, order), inputs=(frame,), outputs=tuple(kept), multiple=1,
            hw=(side, side), draw=draw_frame,
        ),
        Graph(
            name="decoder", module=_Decoder(network, order), inputs=inputs, outputs=outputs, multiple=1, hw=None,
            draw=draw_prompts,
        ),
    ]  # fmt: skip


FRAMES = {
    "half_pixel_uint8": "resized to this long side (Pillow, bilinear), then zeros at right and bottom",
    "half_pixel": "squeezed to this size whatever its shape (bilinear, antialiased)",
}


class _Encoder(nn.Module):
    def __init__(self, network: Sam, order: list[int]) -> None:
        super().__init__()
        self.network, self.order = network, order

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        started = self.network.encode_frame(tensors[0])
        return tuple(started[place] for place in self.order)


class _Decoder(_Encoder):
    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        *maps, xy, labels, mask_input, has_mask, size = tensors
        started = tuple(maps[self.order.index(place)] for place in range(len(maps)))
        labels = labels.long().clamp(PAD, BOTTOM_RIGHT)
        prompts, fed = Prompts(xy, labels, torch.ones_like(labels, dtype=torch.bool)), has_mask > 0
        masks = self.network.decode(started, prompts, mask_input, fed)
        chosen = self.network.choose(masks, is_first(prompts, fed))
        low_logits = pick(masks.low_logits, chosen)
        return (
            self._over_image(low_logits, size),
            masks.quality.gather(1, chosen[:, None]),
            self.network.fed_back(low_logits),
        )

    def _over_image(self, low_logits: Tensor, size: Tensor) -> Tensor:
        """Logits (1, 1, *size): by products, for a graph cannot interpolate to a size that its inputs say."""
        side = self.network.config.side
        over_frame = self.network.over_view(low_logits, (side, side))
        length = over_frame.shape[2]
        inside = (size * side / size.max() + 0.5).floor() if isinstance(self.network.traits.size, LongSide) else length
        height, width = size.long().tolist()
        torch._check(height >= 1)
        torch._check(width >= 1)
        inside = torch.as_tensor(inside, dtype=over_frame.dtype).expand(2)
        rows, columns = (bilinear(num, shown, length) for num, shown in zip((height, width), inside, strict=True))
        return rows @ over_frame @ columns.T


def bilinear(num: int, shown: Tensor, length: int) -> Tensor:
    """Weights (num, length) that make `num` values of the first `shown` of `length`, between pixels' centres."""
    places = (torch.arange(num, dtype=shown.dtype) + 0.5) * (shown / num) - 0.5
    places = places.clamp(min=0).minimum(shown - 1)
    return (1 - (places[:, None] - torch.arange(length, dtype=shown.dtype)).abs()).clamp(min=0)
