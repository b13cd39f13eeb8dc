"""Split a network into graphs with named inputs and outputs: `network`, or `encoder` and `correction`."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from models.click_maps import ClickBatch
from models.exemplar import ExemplarBatch
from models.export.graph import MIN_SIDE, Draw, Graph, Port, Sizes
from models.export.sam import low_graph, prompt_graphs
from models.networks.base import Network, SplitNetwork
from models.networks.focuscut import FocusCut
from models.networks.sam import Sam


def graphs(network: Network, *, low_only: bool = False) -> list[Graph]:
    """Return the graphs of a network, which is moved to the CPU, set to eval mode and partly replaced.

    `low_only`: for SAM's family, return `low` instead of `decoder`, without masks at the image's size.
    """
    network = network.eval().cpu()
    if isinstance(network, SplitNetwork):
        return _split(network)
    if isinstance(network, Sam):
        encoder, decoder = prompt_graphs(network)
        return [encoder, low_graph(decoder) if low_only else decoder]
    whole = _whole(network)
    if isinstance(network, FocusCut) and network.focus is not None:
        return [whole, replace(whole, name="focus_view", module=_Whole(network.focus))]
    return [whole]


class _Whole(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, *tensors: Tensor) -> Tensor:
        image, prev_mask, *clicks = tensors
        return self.network(image, prev_mask, ClickBatch(*clicks)).mask_logits


class _WithExemplar(_Whole):
    def forward(self, *tensors: Tensor) -> Tensor:
        image, prev_mask, *clicks = tensors[:6]
        mask, *lists = tensors[6:]
        # The fields of an exemplar determine the signs of its clicks, so there are no inputs for them.
        exemplar = ExemplarBatch(mask, *(_all_positive(*lists[i : i + 3]) for i in range(0, len(lists), 3)))
        return self.network(image, prev_mask, ClickBatch(*clicks), exemplar).mask_logits


def _all_positive(yx: Tensor, valid: Tensor, first: Tensor) -> ClickBatch:
    return ClickBatch(yx, torch.ones_like(valid), valid, first)


class _Encoder(nn.Module):
    def __init__(self, network: SplitNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        image, prev_mask, *clicks = tensors
        encoded = self.network.encode(image, prev_mask, ClickBatch(*clicks))
        return encoded.features, encoded.low_logits


class _Correction(_Encoder):
    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        image, features, low_logits, *clicks = tensors
        return self.network.correct(image, features, low_logits, ClickBatch(*clicks))


def _whole(network: Network) -> Graph:
    hw, sides = _sides(network)
    inputs, draw = [*_view_ports(sides, network), *_click_ports("clicks")], _draw
    module = _Whole(network)
    if network.traits.exemplar:
        kinds = {"positive": "on the exemplar", "true_negative": "on no object of the category"}
        if network.config.exemplar_negative == "pseudo_and_true":
            kinds["pseudo_negative"] = "on other objects of the category"
        inputs.append(Port(
            name="exemplar_mask", shape=("batch", 1, *sides),
            meaning="0 or 1: the finished object that shows what to find; all 0: no exemplar",
        ))  # fmt: skip
        for kind, where in kinds.items():
            yx, _, valid, first = _click_ports(f"exemplar_{kind}")
            inputs += [replace(yx, meaning=f"{yx.meaning}; {where}"), valid, first]
        module, draw = _WithExemplar(network), _drawing_exemplars(len(kinds))
    return Graph(
        name="network", module=module, inputs=tuple(inputs), outputs=(_logits_port(sides),),
        multiple=network.traits.multiple, hw=hw, draw=draw,
    )  # fmt: skip


def _split(network: SplitNetwork) -> list[Graph]:
    hw, sides = _sides(network)
    encoder = _Encoder(network)

    def draw(sizes: Sizes, generator: torch.Generator) -> tuple[Tensor, ...]:
        image, prev_mask, *clicks = _draw(sizes, generator)
        with torch.no_grad():
            return (image, *encoder(image, prev_mask, *clicks), *clicks)

    tried = draw(Sizes(batch=1, clicks=1, hw=hw or (MIN_SIDE, MIN_SIDE)), torch.Generator())
    quarter = tuple(f"{side}/4" if isinstance(side, str) else side // 4 for side in sides)
    features = Port(
        name="features", shape=("batch", tried[1].shape[1], *quarter),
        meaning="features of the encoder for all corrections",
    )  # fmt: skip
    low = Port(
        name="low_logits", shape=("batch", 1, *quarter),
        meaning="logits at a quarter of the size: the encoder's for the first correction, then those of the last one",
    )  # fmt: skip
    clicks = _click_ports("clicks")
    correction_inputs = (_view_ports(sides, network)[0], features, low, *clicks)
    outputs = (_logits_port(sides), replace(low, name="new_low_logits", meaning="low_logits of the next correction"))
    multiple = network.traits.multiple
    return [
        Graph(
            name="encoder", module=encoder, inputs=(*_view_ports(sides, network), *clicks), outputs=(features, low),
            multiple=multiple, hw=hw, draw=_draw,
        ),
        Graph(
            name="correction", module=_Correction(network), inputs=correction_inputs, outputs=outputs,
            multiple=multiple, hw=hw, draw=draw,
        ),
    ]  # fmt: skip


def _sides(network: Network) -> tuple[tuple[int, int] | None, tuple[int | str, int | str]]:
    size = network.traits.size
    return (size, size) if isinstance(size, tuple) else (None, ("height", "width"))


def _view_ports(sides: tuple[int | str, ...], network: Network) -> tuple[Port, Port]:
    last = "probability (sigmoid) of the last answer; zeros at first"
    if network.traits.prev_mask == "binary":
        last += "; values above 0.5 are object"
    return (
        Port(name="image", shape=("batch", 3, *sides), meaning="RGB in 0..1; the graph normalises it"),
        Port(name="prev_mask", shape=("batch", 1, *sides), meaning=last),
    )


def _logits_port(sides: tuple[int | str, ...]) -> Port:
    return Port(name="mask_logits", shape=("batch", 1, *sides), meaning="logits: their sigmoid is the mask probability")


def _click_ports(prefix: str) -> tuple[Port, Port, Port, Port]:
    shape = ("batch", prefix if prefix == "clicks" else f"{prefix}_clicks")
    return (
        Port(name=f"{prefix}_yx", shape=(*shape, 2), meaning="row and column in pixels of the view, fractions allowed"),
        Port(name=f"{prefix}_positive", shape=shape, dtype="bool", meaning="true: on the object; false: not on it"),
        Port(name=f"{prefix}_valid", shape=shape, dtype="bool", meaning="false: padding, other inputs are ignored"),
        Port(name=f"{prefix}_first", shape=shape, dtype="bool", meaning="true: the first click on the object"),
    )


def _draw(sizes: Sizes, generator: torch.Generator) -> tuple[Tensor, ...]:
    image = torch.rand(sizes.batch, 3, *sizes.hw, generator=generator)
    return (image, torch.rand(sizes.batch, 1, *sizes.hw, generator=generator), *_draw_clicks(sizes, generator))


def _draw_clicks(sizes: Sizes, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw clicks at quarters of pixels, which are exact in float32, so that no edge of a disk depends on rounding."""
    shape = (sizes.batch, sizes.clicks)
    yx = torch.rand(*shape, 2, generator=generator) * (torch.tensor(sizes.hw) - 1)
    positive, valid = (torch.rand(*shape, generator=generator) < share for share in (0.5, 0.7))
    positive[:, 0] = valid[:, 0] = True
    first = torch.zeros_like(valid)
    first[:, 0] = True
    return (4 * yx).round() / 4, positive, valid, first


def _drawing_exemplars(num_kinds: int) -> Draw:
    def draw(sizes: Sizes, generator: torch.Generator) -> tuple[Tensor, ...]:
        drawn = [*_draw(sizes, generator), _draw_boxes(sizes, generator)]
        for number in range(num_kinds):
            yx, _, valid, first = _draw_clicks(replace(sizes, clicks=sizes.clicks + number), generator)
            drawn += [yx, valid, first]
        return tuple(drawn)

    return draw


def _draw_boxes(sizes: Sizes, generator: torch.Generator) -> Tensor:
    """Draw rectangles of a quarter to three quarters of each side; the last of several samples has none."""
    mask = torch.zeros(sizes.batch, 1, *sizes.hw)
    rows, columns = sizes.hw
    ends = torch.rand(max(1, sizes.batch - 1), 4, generator=generator) / 4
    for row, (top, left, height, width) in enumerate(ends.tolist()):
        y, x = int(top * rows), int(left * columns)
        mask[row, 0, y : y + int((0.25 + 2 * height) * rows), x : x + int((0.25 + 2 * width) * columns)] = 1
    return mask
