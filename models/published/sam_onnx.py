"""Read MobileSAM's weights from the pair of ONNX files that web pages use, under the authors' names.

The exporter keeps the names of most tensors. For the others, the node that takes a tensor shows its module: a
convolution has its batch norm folded in, a linear map is transposed, a norm of maps is a product and a sum.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.errors import InputError

EPS = 1e-5
"""Epsilon of TinyViT's batch norms; with a variance of 1 - EPS and a mean of 0, a batch norm only adds its bias."""


def read_pair(encoder: Path, decoder: Path) -> dict[str, Tensor]:
    """Read an encoder and a decoder as the state dict of MobileSAM's authors.

    Raises InputError if a file is not ONNX or the first holds a decoder; does not check which network they hold.
    """
    state = {f"image_encoder.{name}": array for name, array in _weights(encoder)}
    for name, array in _weights(decoder):
        name = name.removeprefix("model.")
        if not name.startswith(("mask_decoder.", "prompt_encoder.")):
            half = "prompt_encoder" if name.startswith(("mask_downscaling.", "no_mask_embed.")) else "mask_decoder"
            name = f"{half}.{name}"
        state[name] = array
    if any("mask_decoder." in name or ".transformer." in name for name in state if name.startswith("image_encoder.")):
        raise InputError(f"{encoder} holds a decoder: pass the encoder first, then the decoder")
    return {name: torch.from_numpy(np.array(array)) for name, array in state.items()}


def _weights(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the weights of an ONNX file, with names inside its half of the network."""
    import onnx
    from onnx import numpy_helper

    if not path.is_file():
        raise InputError(f"no file at {path}: expected an ONNX file")
    try:
        graph: Any = onnx.load(path).graph
    except Exception as error:  # protobuf raises its own error types
        raise InputError(f"{path} cannot be read as ONNX: {error}") from error
    if graph.name in ("encoder", "decoder"):
        raise InputError(f"{path} was written by jobs.export: use the checkpoint from which it was exported")
    arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    named = {name for name in arrays if "." in name and not name.startswith("onnx::")}
    for name in named:
        yield name, arrays[name]
    for node in graph.node:
        if node.op_type == "Constant":
            arrays[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        for place, name in enumerate(node.input):
            if name in arrays and name not in named:
                yield from _of_node(node.op_type, place, _module(node.name), arrays[name])


def _module(node: str) -> str:
    """Return the dotted path of a node's module: /seq/seq.0/c/Conv is in seq.0.c."""
    parts: list[str] = []
    for part in node.strip("/").split("/")[:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    return ".".join(parts)


def _of_node(kind: str, place: int, module: str, array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the weights that an unnamed input of a node holds."""
    if kind == "Conv" and module.endswith(".c"):
        yield from _folded(module, array) if place == 1 else [(f"{module.removesuffix('.c')}.bn.bias", array)]
    elif kind == "MatMul" and array.ndim == 2:
        yield f"{module}.weight", array.T
    elif kind == "Add" and module.endswith(".attn") and array.ndim == 3:
        yield f"{module}.attention_biases", array[:, 0]  # the biases for the first cell of a window
    elif kind in ("Mul", "Add") and array.ndim == 3 and array.shape[1:] == (1, 1):
        yield f"{module}.{'weight' if kind == 'Mul' else 'bias'}", array.reshape(-1)
    elif not module and kind == "Mul" and array.ndim == 4:
        yield "no_mask_embed.weight", array.reshape(1, -1)
    elif not module and kind == "Expand" and array.ndim == 3:
        yield "iou_token.weight", array[0, :1]
        yield "mask_tokens.weight", array[0, 1:]


def _folded(module: str, weight: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Yield a convolution with a folded batch norm, and a batch norm that only adds the bias."""
    norm, size = f"{module.removesuffix('.c')}.bn", len(weight)
    yield f"{module}.weight", weight
    yield f"{norm}.weight", np.ones(size, np.float32)
    yield f"{norm}.running_mean", np.zeros(size, np.float32)
    yield f"{norm}.running_var", np.full(size, 1 - EPS, np.float32)
    yield f"{norm}.num_batches_tracked", np.zeros((), np.int64)
