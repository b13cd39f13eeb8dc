"""Compare an exported graph with torch, in onnxruntime on the CPU, on random inputs of several sizes."""

import copy
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.export.graph import Graph, Sizes

TOLERANCE = 1e-3
"""Largest allowed difference, in standard deviations of the output.

Float rounding gives 1e-6 to 7e-4 (fresh weights are worst); an operator with another meaning gives 1e-2 or more. If
logits are normally distributed around the threshold, a shift of 1e-3 moves fewer than one pixel in 2000 across it.
"""
UNDECIDED = 0.05
"""Difference between torch's float32 and double outputs from which on rounding has decided between two results."""
DRAWS = 6
"""Number of inputs to try for a case before it counts as not comparable."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One case: the largest difference of any output from torch's, in its standard deviations, and the allowed one.

    If torch's rounding errors are larger (deep networks with fresh weights), twice these errors are allowed, and the
    difference is taken from torch's output in double precision. None: rounding decides, so nothing can be compared.
    """

    sizes: Sizes
    difference: float | None
    allowed: float = TOLERANCE

    @property
    def failed(self) -> bool:
        """Whether the outputs disagree, also if the difference is NaN."""
        return self.difference is not None and not self.difference <= self.allowed


def check(graph: Graph, path: Path) -> list[Check]:
    """Compare one sample with one click, several samples with several clicks, and another size if sizes are free."""
    session = open_session(path)
    return [_check(graph, session, sizes) for sizes in cases(graph)]


def disagree(checks: Sequence[Check]) -> bool:
    """Whether a graph disagrees with torch in any case, or no case could be compared."""
    return any(check.failed for check in checks) or all(check.difference is None for check in checks)


def cases(graph: Graph) -> list[Sizes]:
    """Return the sizes to compare; the first is also timed."""
    hw, other = (
        graph.hw or (rows // graph.multiple * graph.multiple, columns // graph.multiple * graph.multiple)
        for rows, columns in ((384, 512), (331, 262))
    )
    alone = any(port.shape[:1] == (1,) for port in graph.inputs)  # a graph for one image at a time
    return [
        Sizes(batch=1, clicks=1, hw=hw),
        Sizes(batch=1 if alone else 2, clicks=6, hw=hw),
        Sizes(batch=1 if alone else 3, clicks=2, hw=other),
    ]


def milliseconds(graph: Graph, path: Path) -> tuple[float, float]:
    """Time one click in torch and in onnxruntime with equal threads: medians of 3 in milliseconds, after a warm-up."""
    session, inputs = open_session(path), graph.draw(cases(graph)[0], torch.Generator().manual_seed(0))
    times: list[list[float]] = [[], []]
    with torch.inference_mode():
        for _ in range(4):
            for answer, runs in zip(
                (lambda: graph.module(*inputs), lambda: run(session, graph, inputs)), times, strict=True
            ):
                start = time.perf_counter()
                answer()
                runs.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


def open_session(path: Path) -> Any:
    """Open an ONNX file in onnxruntime on the CPU, with torch's number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Spinning threads take the CPU from the work between two graphs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(session: Any, graph: Graph, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Run a graph in onnxruntime; inputs that the file does not have are left out."""
    tensors = {port.name: tensor for port, tensor in zip(graph.inputs, inputs, strict=True)}
    given = {value.name: tensors[value.name].numpy() for value in session.get_inputs()}
    return [torch.from_numpy(output) for output in session.run([port.name for port in graph.outputs], given)]


def _check(graph: Graph, session: Any, sizes: Sizes) -> Check:
    for seed in range(DRAWS):
        inputs = graph.draw(sizes, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            expected = _tuple(graph.module(*inputs))
        got = run(session, graph, inputs)
        if (difference := _difference(got, expected)) <= TOLERANCE:
            return Check(sizes=sizes, difference=difference)
        exact = _in_double(graph, inputs)
        if (own := _difference(expected, exact)) < UNDECIDED:
            return Check(sizes=sizes, difference=_difference(got, exact), allowed=max(TOLERANCE, 2 * own))
    return Check(sizes=sizes, difference=None)


def _in_double(graph: Graph, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Return torch's outputs in double precision, rounded to float32 at the end."""
    module = copy.deepcopy(graph.module).double()
    with torch.no_grad():
        answer = module(*(x.double() if x.is_floating_point() else x for x in inputs))
    return [x.float() for x in _tuple(answer)]


def _difference(got: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the largest difference of any output, in its standard deviations (a single value: relative to it).

    NaN if an output contains NaN.
    """
    spreads = (b.std() if b.numel() > 1 else b.abs().max() for b in expected)
    differences = ((a - b).abs().max() for a, b in zip(got, expected, strict=True))
    # Outputs of convolutions that start at zero have a standard deviation of 0.
    parts = [d if d == 0 else d / spread for d, spread in zip(differences, spreads, strict=True)]
    return torch.stack(parts).max().item()


def _tuple(answer: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return answer if isinstance(answer, tuple) else (answer,)
