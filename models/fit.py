"""Check a file's tensors against a network, with messages that list every mismatch."""

from collections.abc import Mapping

import torch
from torch import Tensor

from models.errors import InputError

Shape = tuple[int, ...]


def check_fit(title: str, wanted: Mapping[str, Shape], given: Mapping[str, Shape]) -> None:
    """Raise InputError unless names and shapes agree: `title`, then the missing, unused and misshapen tensors."""
    missing = sorted(wanted.keys() - given.keys())
    left_over = sorted(given.keys() - wanted.keys())
    wrong = [
        f"{key}: {given[key]} given, {wanted[key]} expected"
        for key in sorted(wanted.keys() & given.keys())
        if given[key] != wanted[key]
    ]
    lines = [title]
    for what, names in (("missing", missing), ("not used", left_over), ("of another shape", wrong)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            lines.append(f"  {len(names)} tensors {what}: {', '.join(names[:5])}{more}")
    if len(lines) > 1:
        raise InputError("\n".join(lines))


def check_values(title: str, wanted: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Raise InputError (`title`, then each tensor and reason) unless the wanted tensors of `given` hold valid weights.

    Weights must be finite, and floating-point or integer as the wanted tensor is.
    """
    common = sorted(wanted.keys() & given.keys())
    wrong = [f"{key} {why}" for key in common if (why := _no_weight(wanted[key], given[key]))]
    if wrong:
        more = f" and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise InputError(f"{title}\n  {len(wrong)} tensors hold no weights: {', '.join(wrong[:5])}{more}")


def _no_weight(wanted: Tensor, given: Tensor) -> str:
    if given.is_meta or given.layout != torch.strided:
        return "has a shape but no values" if given.is_meta else f"has layout {given.layout}"
    if wanted.is_floating_point() != given.is_floating_point() or given.is_complex():
        return f"is {given.dtype}, expected {wanted.dtype}"
    return "" if bool(given.float().isfinite().all()) else "has values that are not finite"


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Return the shapes of a state dict's tensors."""
    return {key: tuple(tensor.shape) for key, tensor in state.items()}
