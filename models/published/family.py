"""What a family of published checkpoints is: how their names and shapes become ours."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

UNKNOWN_LICENCE = "unknown: see the file's source"


def no_dead(config: Any) -> Shapes:
    """Every tensor of the file is used."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Family:
    """How the authors' files of one family are read; every key is theirs."""

    prefix: str
    """Names of our networks that belong to it start so."""
    rename: Callable[[str], str] = str
    """Our name of a tensor, where it is not theirs."""
    reshape: Callable[[str, Tensor], Tensor] = lambda key, tensor: tensor
    """Our form of a tensor."""
    dead: Callable[[Any], Shapes] = no_dead
    """Tensors that files carry but no forward uses, with their shapes, for a network's config."""
    alias: Callable[[str], str | None] = lambda key: None
    """Of a tensor that repeats another: that other's key."""
    licence: str = UNKNOWN_LICENCE
    """Of the authors' weights."""
    refinement: str = "standard"
    """By name: how the authors evaluate their weights."""
    marks: tuple[str, ...] = ()
    """How names of tensors begin that click-to-mask networks alone have, these among them."""
    class_name: str = ""
    """Last part of the class that the config in such files names."""
    behaviour: Mapping[tuple[str, ...], Any] = field(default_factory=dict)
    """What our networks do: settings of those configs, by path, that no tensor's shape would show."""


def conv(name: str, dim_in: int, dim_out: int, *, side: int = 1, bias: bool = True) -> Shapes:
    """Shapes of a convolution's tensors."""
    return {f"{name}.weight": (dim_out, dim_in, side, side)} | ({f"{name}.bias": (dim_out,)} if bias else {})


def linear(name: str, dim_in: int, dim_out: int) -> Shapes:
    """Shapes of a linear map's tensors."""
    return {f"{name}.weight": (dim_out, dim_in), f"{name}.bias": (dim_out,)}


def norm(name: str, dim: int, *, batch: bool = False) -> Shapes:
    """Shapes of a normalisation's tensors; a batch normalisation has statistics too."""
    shapes: Shapes = {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}
    if batch:
        shapes |= {f"{name}.running_mean": (dim,), f"{name}.running_var": (dim,), f"{name}.num_batches_tracked": ()}
    return shapes
