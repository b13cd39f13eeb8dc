"""Stand-ins for classes that are pickled beside weights, so that no class or function named in a file is run.

This includes NumPy's unpickling, which takes the size of a value from the file and crashes if it is wrong. Arrays of
numbers are read, because some files keep weights in them.
"""

import contextlib
import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

CONFIG_LOSS = "isegm.model.modeling.transformer_helper.cross_entropy_loss"
"""Module of the loss in published SimpleClick configs."""


class Inert:
    """Stand-in for a class or function that a file names, and for its result; it stores nothing."""

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class DType:
    """Stand-in for a NumPy dtype: `code` is a text such as "<f8", or "" unless it is for numbers or text."""

    def __init__(self, name: object = "", *rest: object) -> None:
        self.code = name if isinstance(name, str) and re.fullmatch(r"[biufcSU]\d{1,6}", name) else ""

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">") and self.code:
            self.code = f"{state[1]}{self.code}"


class Array(Inert):
    """Stand-in for a NumPy array: `tensor` if it holds numbers, else None."""

    tensor: Tensor | None = None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            return
        _, shape, dtype, by_columns, data = state
        if not isinstance(dtype, DType) or not isinstance(data, bytes) or not dtype.code:
            return
        with contextlib.suppress(TypeError, ValueError):  # text, numbers unknown to torch, bytes of another size
            values = np.frombuffer(data, dtype.code).reshape(shape, order="F" if by_columns else "C")
            self.tensor = torch.from_numpy(np.array(values, values.dtype.newbyteorder("="), order="C"))


def array(*made_of: object) -> Array:
    """Return an empty array; its values are set with its state."""
    return Array()


def plain_dict(*made_of: object) -> dict[Any, Any]:
    """Stand-in for `defaultdict`: returns an empty dict, since the unpickler fills no other type."""
    return {}


def plain_list(*made_of: object) -> list[Any]:
    """Stand-in for `deque`: returns an empty list."""
    return []


def no_bytes(*made_of: object) -> bytes:
    """Stand-in for `bytes`, which the oldest pickle protocols call only for an empty value."""
    return b""


def scalar(dtype: object = None, data: object = b"", *rest: object) -> Any:
    """Return a NumPy number or text from its dtype and bytes; Inert for anything else."""
    if not isinstance(dtype, DType) or not dtype.code or not isinstance(data, bytes):
        return Inert()
    try:
        return np.frombuffer(data, dtype.code)[0]
    except (TypeError, ValueError):  # no such dtype, or bytes of another size
        return Inert()


_PATHS = [f"{kind}{system}Path" for kind in ("", "Pure") for system in ("", "Posix", "Windows")]
_INERT = (
    f"{CONFIG_LOSS}.CrossEntropyLoss",
    f"{CONFIG_LOSS}.cross_entropy",
    "argparse.Namespace",
    "types.SimpleNamespace",
    "torch._C.Generator",
    "decimal.Decimal",
    "uuid.UUID",
    *(f"datetime.{name}" for name in ("date", "time", "datetime", "timedelta", "timezone")),
    *(
        f"builtins.{name}"
        for name in ("bool", "dict", "float", "frozenset", "int", "list", "range", "slice", "str", "tuple")
    ),
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in _PATHS),
    "numpy.bool_",  # NumPy 1
    *(f"numpy.{kind.__name__}" for kind in np.sctypeDict.values()),
    *(f"numpy.dtypes.{name}" for name in np.dtypes.__all__),
)


def stand_ins() -> torch.serialization.safe_globals:
    """Return the context in which `weights_only` loading replaces these names, of NumPy 1 and 2, by their stand-ins."""
    known: dict[str, Any] = dict.fromkeys(_INERT, Inert)
    known |= {"numpy.dtype": DType, "numpy.ndarray": Array}
    known |= {"collections.defaultdict": plain_dict, "collections.deque": plain_list, "builtins.bytes": no_bytes}
    for core in ("numpy.core", "numpy._core"):
        known |= {f"{core}.multiarray.scalar": scalar, f"{core}.multiarray._reconstruct": array}
    return torch.serialization.safe_globals([(stand_in, name) for name, stand_in in known.items()])
