"""Families of published checkpoints, with the mapping from their names and shapes to ours."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

UNKNOWN_LICENCE = "unknown: see the file's source"


def no_dead(config: Any) -> Shapes:
    """Return no shapes, for families whose files contain no unused tensors."""
    return {}


@dataclass(frozen=True, kw_only=True)
class Family:
    """How to read the authors' files of one family; all keys are theirs."""

    prefix: str
    """Prefix of the names of our networks in this family."""
    rename: Callable[[str], str] = str
    """Map their name of a tensor to ours."""
    reshape: Callable[[str, Tensor], Tensor] = lambda key, tensor: tensor
    """Map their form of a tensor to ours."""
    dead: Callable[[Any], Shapes] = no_dead
    """Shapes of the tensors in files that no forward uses, for a network's config."""
    alias: Callable[[str], str | None] = lambda key: None
    """Key of the tensor that a tensor repeats, or None."""
    licence: str = UNKNOWN_LICENCE
    """Licence of the authors' weights."""
    refinement: str = "standard"
    """Name of the refinement with which the authors evaluate their weights."""
    marks: tuple[str, ...] = ()
    """Prefixes of tensors that only click-to-mask networks have, and that this family has."""
    class_name: str = ""
    """Last part of the class name in the files' config."""
    behaviour: Mapping[tuple[str, ...], Any] = field(default_factory=dict)
    """Settings of the files' config, by path, with the value that our networks implement; shapes do not show them."""


def conv(name: str, dim_in: int, dim_out: int, *, side: int = 1, bias: bool = True) -> Shapes:
    """Return the shapes of a convolution's tensors."""
    return {f"{name}.weight": (dim_out, dim_in, side, side)} | ({f"{name}.bias": (dim_out,)} if bias else {})


def linear(name: str, dim_in: int, dim_out: int) -> Shapes:
    """Return the shapes of a linear map's tensors."""
    return {f"{name}.weight": (dim_out, dim_in), f"{name}.bias": (dim_out,)}


def norm(name: str, dim: int, *, batch: bool = False) -> Shapes:
    """Return the shapes of a normalisation's tensors, including the statistics of a batch normalisation."""
    shapes: Shapes = {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}
    if batch:
        shapes |= {f"{name}.running_mean": (dim,), f"{name}.running_var": (dim,), f"{name}.num_batches_tracked": ()}
    return shapes
