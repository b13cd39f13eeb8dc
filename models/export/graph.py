"""Description of a graph to export: a module over plain tensors, and the meaning of its inputs and outputs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MIN_SIDE = 64
"""Smallest side, in pixels, of views of free size; below it, the smallest map of some network would be one cell."""


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input or output; dimensions of free size are names, or fractions of names such as "height/4"."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float32"
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Values of the free dimensions in one case."""

    batch: int
    clicks: int
    hw: tuple[int, int]


Draw = Callable[[Sizes, torch.Generator], tuple[Tensor, ...]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Graph:
    """One graph to export: a module over plain tensors (`forward(*inputs)`), and the meaning of the tensors."""

    name: str
    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    multiple: int
    """Both sides of a view are multiples of this."""
    hw: tuple[int, int] | None
    """Size of the views; None if it is free."""
    draw: Draw
    """Draw random inputs."""
