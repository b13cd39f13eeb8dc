"""A graph to write: a module over plain tensors, and what its inputs and outputs mean."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

MIN_SIDE = 64
"""Smallest side, in pixels, of views of any size: below it some network's smallest map would be a single cell."""


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input or an output; a dimension that is not fixed has a name, or is a quarter of one that has."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float32"
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the dimensions without a fixed size are in one case."""

    batch: int
    clicks: int
    hw: tuple[int, int]


Draw = Callable[[Sizes, torch.Generator], tuple[Tensor, ...]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Graph:
    """One graph to write: a module over plain tensors (`forward(*inputs)`), and what they mean."""

    name: str
    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    multiple: int
    """Both sides of a view are multiples of this."""
    hw: tuple[int, int] | None
    """Size of the views, None where it is free."""
    draw: Draw
    """Random inputs."""
