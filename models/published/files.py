"""Open the authors' `.pth` files without running what is in them.

They are read with `weights_only=True` and inert stand-ins for the few classes that their configs pickle; there is no
fallback to a full unpickle.
"""

import collections
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import InputError


def refuse_lfs_pointer(path: Path) -> None:
    """Raise InputError if Git left a pointer where the weights should be."""
    if path.is_file():
        with path.open("rb") as file:
            if file.read(24).startswith(b"version https://git-lfs"):
                raise InputError(f"{path} is a Git LFS pointer, not the weights: fetch them with `git lfs pull`")


def read_file(path: Path) -> Any:
    """Whatever a `.pth` holds, on the CPU; raises InputError if it cannot be read or wants to run something."""
    if not path.is_file():
        raise InputError(f"no checkpoint file at {path}")
    refuse_lfs_pointer(path)
    try:
        with _StandIns():
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler finds, the file is refused and named
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} cannot be read as a checkpoint: {reason}") from error


def read_state(path: Path) -> dict[str, Tensor]:
    """Open a `.pth` and return its state dict; raises InputError if it holds none."""
    content = read_file(path)
    state = content
    for key in ("state_dict", "model"):  # RITM's family; MAE's backbones
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            state = content[key]
            break
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path} holds no weights: expected {{'state_dict': ...}} or a plain state dict")
    return state


class _CrossEntropyLoss:
    """Inert stand-in for the loss object that published SimpleClick configs pickle."""


def _cross_entropy() -> None:
    """Inert stand-in for the function that the pickled loss refers to."""


_PICKLED_IN = "isegm.model.modeling.transformer_helper.cross_entropy_loss"


class _StandIns:
    """Context in which `weights_only` loading knows the two names above and nothing else new."""

    def __enter__(self) -> None:
        self.added: list[str] = []
        parts = _PICKLED_IN.split(".")
        for end in range(1, len(parts) + 1):
            name = ".".join(parts[:end])
            if name not in sys.modules:
                sys.modules[name] = types.ModuleType(name)
                self.added.append(name)
        module: Any = sys.modules[_PICKLED_IN]
        for name, stand_in in (("CrossEntropyLoss", _CrossEntropyLoss), ("cross_entropy", _cross_entropy)):
            stand_in.__module__, stand_in.__qualname__ = _PICKLED_IN, name
            setattr(module, name, stand_in)
        self.safe = torch.serialization.safe_globals([_CrossEntropyLoss, _cross_entropy, collections.OrderedDict, set])
        self.safe.__enter__()

    def __exit__(self, *error: object) -> None:
        self.safe.__exit__(*error)
        for name in self.added:
            del sys.modules[name]
