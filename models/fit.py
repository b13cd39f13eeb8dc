"""Say what of a file's tensors fits a network and what does not, for people."""

from collections.abc import Mapping

from torch import Tensor

from models.errors import InputError

Shape = tuple[int, ...]


def check_fit(title: str, wanted: Mapping[str, Shape], given: Mapping[str, Shape]) -> None:
    """Raise InputError (`title`, then what is missing, left over or of another shape) unless names and shapes agree."""
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


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Shapes of a state dict's tensors."""
    return {key: tuple(tensor.shape) for key, tensor in state.items()}
