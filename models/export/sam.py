"""The two graphs of SAM's family, with the inputs and outputs of the authors' export, which web pages for SAM use."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.tiny_vit import TinyVitBlock
from torch import Tensor, nn

from models.export.graph import Graph, Port, Sizes
from models.geometry import LongSide
from models.networks.lite import Lite
from models.networks.sam import Sam, is_first, pick
from models.networks.sam_encoders import PATCH
from models.networks.sam_prompts import BOTTOM_RIGHT, PAD, Prompts


def prompt_graphs(network: Sam) -> list[Graph]:
    """Return the graphs `encoder`, which takes a frame, and `decoder`, which takes prompts for one image."""
    side, free = network.config.side, isinstance(network, Lite)
    encoder: Any = network.image_encoder
    for part in encoder.modules():
        if hasattr(part, "fused_attn"):  # timm's call with three dimensions cannot be exported
            part.fused_attn = False
        if isinstance(part, TinyVitBlock):
            part.__class__ = _AnySizeBlock
    with torch.no_grad():
        started = network.encode_frame(torch.zeros(1, 3, side, side))
    # The finest map first, as the authors number them.
    order = [0, *range(len(started) - 1, 0, -1)]
    names = ["image_embeddings", *(f"high_res_{number}" for number in range(len(started) - 1))]

    def sides(length: int) -> tuple[int | str, int | str]:
        """Return the sides of a map that has this length for a square frame."""
        stride = side // length
        return (f"height/{stride}", f"width/{stride}") if free else (length, length)

    low_sides = sides(4 * side // PATCH)
    kept = [
        Port(
            name=name, shape=("batch", started[place].shape[1], *sides(started[place].shape[2])),
            meaning="features of the encoder for all prompts",
        )
        for name, place in zip(names, order, strict=True)
    ]  # fmt: skip
    how = FRAMES["free" if free else network.traits.resampling].format(side=side)
    mean, deviation = (
        tuple(round(value, 3) for value in values.flatten().tolist())
        for values in (network.image_mean, network.image_std)
    )
    frame = Port(
        name="input", shape=("batch", 3, *(("height", "width") if free else (side, side))),
        meaning=f"a frame: RGB in 0..1 minus {mean}, divided by {deviation}, {how}",
    )  # fmt: skip
    points = (1, "num_points")
    inputs = (
        *(Port(name=port.name, shape=(1, *port.shape[1:]), meaning=port.meaning) for port in kept),
        Port(name="point_coords", shape=(*points, 2), meaning="x and y in pixels of the frame; the graph adds 0.5"),
        Port(
            name="point_labels", shape=points,
            meaning="1 on the object, 0 not on it, 2 and 3 a box's first and last corner, -1 padding: exactly one "
            + ("always" if network.prompt_encoder.always_pad else "unless there is a box"),
        ),
        Port(name="mask_input", shape=(1, 1, *low_sides), meaning="low_res_masks of the last answer"),
        Port(name="has_mask_input", shape=(1,), meaning="1 if there is such an answer; else 0, with mask_input zeros"),
        Port(name="orig_im_size", shape=(2,), meaning="height and width of the image, in pixels"),
    )  # fmt: skip
    outputs = (
        Port(name="masks", shape=(1, 1, "image_height", "image_width"), meaning="logits: values above 0 are object"),
        Port(name="iou_predictions", shape=(1, 1), meaning="predicted IoU of the mask"),
        Port(name="low_res_masks", shape=(1, 1, *low_sides), meaning="mask_input of the next prompt"),
    )

    def draw_frame(sizes: Sizes, generator: torch.Generator) -> tuple[Tensor, ...]:
        return (torch.randn(sizes.batch, 3, *frame_hw(sizes), generator=generator),)

    def draw_prompts(sizes: Sizes, generator: torch.Generator) -> tuple[Tensor, ...]:
        height, width = frame_hw(sizes)
        shapes = [(started[place].shape[1], side // started[place].shape[2]) for place in order]
        maps = [torch.randn(1, num, height // s, width // s, generator=generator) for num, s in shapes]
        xy = torch.rand(1, sizes.clicks + 1, 2, generator=generator) * torch.tensor([width, height])
        labels = torch.randint(0, 2, (1, sizes.clicks + 1), generator=generator).float()
        labels[:, -1] = PAD
        low_logits = 8 * torch.randn(1, 1, 4 * height // PATCH, 4 * width // PATCH, generator=generator)
        fed = torch.tensor([float(sizes.clicks > 1)])
        return (*maps, xy, labels, low_logits * fed, fed, torch.tensor(sizes.hw, dtype=torch.float32))

    def frame_hw(sizes: Sizes) -> tuple[int, int]:
        """Return the size of the frame around an image of this size."""
        return network.padded_hw(network.frame_hw(sizes.hw))

    return [
        Graph(
            name="encoder", module=_Encoder(network, order), inputs=(frame,), outputs=tuple(kept),
            multiple=network.stride if free else 1, hw=None if free else (side, side), draw=draw_frame,
        ),
        Graph(
            name="decoder", module=_Decoder(network, order), inputs=inputs, outputs=outputs, multiple=1, hw=None,
            draw=draw_prompts,
        ),
    ]  # fmt: skip


def low_graph(decoder: Graph) -> Graph:
    """Return the part of a `decoder` up to the logits from which it makes `masks` and `low_res_masks`."""
    module: Any = decoder.module
    *_, low = decoder.outputs
    return replace(
        decoder, name="low", module=_Low(module.network, module.order), inputs=decoder.inputs[:-1],
        outputs=(replace(low, name="low_logits", meaning="logits of the mask that is shown"),),
        draw=lambda sizes, generator: decoder.draw(sizes, generator)[:-1],
    )  # fmt: skip


FRAMES = {
    "half_pixel_uint8": "resized to this long side (Pillow, bilinear), then zeros at right and bottom",
    "free": "resized to a long side of {side} (bilinear, antialiased), then zeros up to multiples of 32",
    "half_pixel": "squeezed to this size whatever its shape (bilinear, antialiased)",
}


class _Encoder(nn.Module):
    def __init__(self, network: Sam, order: list[int]) -> None:
        super().__init__()
        self.network, self.order = network, order

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        started = self.network.encode_frame(tensors[0])
        return tuple(started[place] for place in self.order)


class _Low(_Encoder):
    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return (self.answer(tensors)[0],)

    def answer(self, tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the low-resolution logits of the mask to show, and its predicted IoU."""
        *maps, xy, labels, mask_input, has_mask = tensors
        started = tuple(maps[self.order.index(place)] for place in range(len(maps)))
        labels = labels.long().clamp(PAD, BOTTOM_RIGHT)
        prompts, fed = Prompts(xy, labels, torch.ones_like(labels, dtype=torch.bool)), has_mask > 0
        masks = self.network.decode(started, prompts, mask_input, fed)
        chosen = self.network.choose(masks, is_first(prompts, fed))
        return pick(masks.low_logits, chosen), masks.quality.gather(1, chosen[:, None])


class _Decoder(_Low):
    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        low_logits, quality = self.answer(tensors[:-1])
        return self._over_image(low_logits, tensors[-1]), quality, self.network.fed_back(low_logits)

    def _over_image(self, low_logits: Tensor, size: Tensor) -> Tensor:
        """Resize logits to (1, 1, *size) by matrix products, since graphs cannot interpolate to an input's size."""
        side = self.network.config.side
        if isinstance(self.network.traits.size, LongSide):
            cells = PATCH // 4
            frame_hw = [cells * low_logits.shape[2], cells * low_logits.shape[3]]
            over_frame = F.interpolate(low_logits, size=frame_hw, mode="bilinear")
            inside = (size * side / size.max() + 0.5).floor()
        else:
            over_frame, inside = low_logits, size.new_full((2,), low_logits.shape[2])
        height, width = size.long().tolist()
        torch._check(height >= 1)
        torch._check(width >= 1)
        rows = bilinear(height, inside[0], over_frame.shape[2])
        columns = bilinear(width, inside[1], over_frame.shape[3])
        return rows @ over_frame @ columns.T


class _AnySizeBlock(TinyVitBlock):
    """timm's block without its test whether a map needs padding, which a graph of free size cannot make."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, h, w, c) to the same shape."""
        batch, height, width, channels = x.shape
        side = self.window_size
        rows, columns = (height + side - 1) // side, (width + side - 1) // side
        padded = F.pad(x, (0, 0, 0, columns * side - width, 0, rows * side - height))
        windows = padded.view(batch, rows, side, columns, side, channels).transpose(2, 3)
        seen = self.attn(windows.reshape(batch * rows * columns, side * side, channels))
        seen = seen.view(batch, rows, columns, side, side, channels).transpose(2, 3)
        x = x + seen.reshape(batch, rows * side, columns * side, channels)[:, :height, :width]
        x = self.local_conv(x.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        return (x + self.mlp(x)).view(batch, height, width, channels)


def bilinear(num: int, shown: Tensor, length: int) -> Tensor:
    """Return weights (num, length) that resize the first `shown` of `length` values to `num`, by half-pixel centres."""
    places = (torch.arange(num, dtype=shown.dtype) + 0.5) * (shown / num) - 0.5
    places = places.clamp(min=0).minimum(shown - 1)
    return (1 - (places[:, None] - torch.arange(length, dtype=shown.dtype)).abs()).clamp(min=0)
