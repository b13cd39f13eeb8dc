"""Export a graph's module to an ONNX file."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch

from models.export.graph import MIN_SIDE, Graph, Port, Sizes

OPSET = 20
"""Default opset of torch's exporter; onnxruntime has kernels for all of it since 1.17."""


def write(graph: Graph, path: Path) -> list[str]:
    """Write an ONNX file (weights of more than 1.5 GB into PATH.data) and return the names of its inputs.

    Inputs that the graph does not use are left out.
    """
    # The tracer would treat sizes of 1, or equal sizes, as constants.
    multiple = graph.multiple
    tried = Sizes(batch=2, clicks=3, hw=graph.hw or (224 // multiple * multiple, 288 // multiple * multiple))
    args = graph.draw(tried, torch.Generator().manual_seed(0))
    dims = _dims(graph)
    shapes = tuple({i: dims[size] for i, size in enumerate(port.shape) if size in dims} for port in graph.inputs)
    with _quiet(), torch.no_grad():
        program = torch.export.export(
            graph.module, args, dynamic_shapes=(shapes,), strict=False, prefer_deferred_runtime_asserts_over_guards=True
        )
        written: Any = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, verbose=False,
            input_names=[port.name for port in graph.inputs], output_names=[port.name for port in graph.outputs],
        )  # fmt: skip
        model = written.model
        _name_dims(model.graph, graph.inputs, graph.outputs)
        for value in [value for value in model.graph.inputs if not value.uses()]:
            model.graph.inputs.remove(value)
        model.graph.name = graph.name
        written.save(str(path))
    return [value.name for value in model.graph.inputs]


def _dims(graph: Graph) -> dict[Any, Any]:
    """Return torch.export's dimension for every name in the shape of an input."""
    from torch.export import Dim

    names = {size for port in graph.inputs for size in port.shape if isinstance(size, str)}
    dims: dict[Any, Any] = {name: Dim(name, min=1) for name in names if not name.startswith(("height", "width"))}
    multiple = graph.multiple
    for side in ("height", "width"):
        unit = Dim(f"{side}_units", min=-(-MIN_SIDE // multiple))
        dims[side] = unit if multiple == 1 else multiple * unit
    # Left to the tracer: with separate dimensions it would not infer that the view's sides are multiples of these.
    dims |= dict.fromkeys((name for name in names if "/" in name), Dim.AUTO)
    return dims


def _name_dims(graph: Any, inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> None:
    """Rename the dimensions of inputs and outputs; the tracer's names inside the graph are dropped."""
    import onnx_ir as ir

    for node in graph.all_nodes():
        for value in node.outputs:
            if value.shape is not None and not value.shape.is_static():
                value.shape = None
    for values, ports in ((graph.inputs, inputs), (graph.outputs, outputs)):
        for value, port in zip(values, ports, strict=True):
            value.shape = ir.Shape(port.shape)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' progress messages from the terminal."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.__trace", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
