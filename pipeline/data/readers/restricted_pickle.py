"""Read pickles of plain data without running anything in them.

A pickle is a program that may call anything it names. Here it may name only a few replacements that build sets, bytes
and NumPy arrays, and nothing of Python or NumPy itself, not even NumPy's function that rebuilds arrays, which trusts
its input.
"""

import io
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import InputError

_NUMPY = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy.core.numeric", "numpy._core.numeric")
_DTYPES = {*(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8)), "b1", "f2", "f4", "f8"}


class PickledArray:
    """An array as its pickle describes it; `array()` builds it, and so does `np.asarray`."""

    __slots__ = ("_dtype", "_fortran", "_raw", "_shape")

    def __init__(self) -> None:
        self._dtype, self._shape, self._fortran, self._raw = "", (0,), False, b""

    def __setstate__(self, state: Any) -> None:
        shape, dtype, fortran, raw = state[-4:]
        self._fill(raw, dtype, shape, bool(fortran))

    def _fill(self, raw: Any, dtype: Any, shape: Any, fortran: bool) -> None:
        if isinstance(raw, str):  # bytes written by Python 2
            raw = raw.encode("latin-1")
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes | bytearray) or not isinstance(shape, tuple):
            raise pickle.UnpicklingError("an array of Python objects, or something that is not an array")
        # Messages never show unchecked values of the file: nested tuples may not fit into memory as text.
        if len(shape) > 8 or not all(isinstance(n, int) and 0 <= n < 1 << 32 for n in shape):
            raise pickle.UnpicklingError("an array with an invalid shape")
        if math.prod(shape) * np.dtype(dtype.text).itemsize != len(raw):
            raise pickle.UnpicklingError(f"an array of the shape {shape} with {len(raw)} bytes")
        self._dtype, self._shape, self._fortran, self._raw = dtype.text, shape, fortran, bytes(raw)

    def array(self) -> np.ndarray:
        """Build the array, read-only."""
        flat = np.frombuffer(self._raw, self._dtype)
        return flat.reshape(self._shape, order="F" if self._fortran else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array(), dtype=dtype, copy=copy)


class _Dtype:
    """The type of an array's values: booleans, whole numbers or floating-point numbers."""

    __slots__ = ("text",)

    def __init__(self, text: Any) -> None:
        if not isinstance(text, str):
            raise pickle.UnpicklingError("values of an unknown type")
        if text.lstrip("<>|=") not in _DTYPES:
            raise pickle.UnpicklingError(f"values of the type {text[:40]!r}")
        self.text = text

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state[1], str) or state[1] not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError("values in an unknown byte order")
        self.text = state[1] + self.text.lstrip("<>|=")


class _Global:
    """Replacement for a name in a pickle; each is a new object and not a class, so nothing of ours can be changed."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a change to a name that it may only call")


def _to_bytes(text: Any = "", encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes in an unknown form")
    return text.encode("latin-1")


def _to_bytearray(value: Any = b"", *rest: Any) -> bytearray:
    if not isinstance(value, bytes | bytearray) and not rest:
        raise pickle.UnpicklingError("bytes in an unknown form")
    return bytearray(_to_bytes(value, *rest) if rest else value)


def _scalar(dtype: Any, raw: Any = b"") -> Any:
    array = PickledArray()
    array._fill(raw, dtype, (), False)
    return array.array().item()


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any = "C") -> PickledArray:
    array = PickledArray()
    array._fill(raw, dtype, shape, order == "F")
    return array


def _never(*args: Any) -> Any:
    raise pickle.UnpicklingError("an array built in an unknown way")


_NUMPY_CALLS: dict[str, Callable[..., Any]] = {
    "_reconstruct": lambda *args: PickledArray(),
    "_frombuffer": _from_buffer,
    "scalar": _scalar,
    "dtype": lambda text, *args: _Dtype(text),
    "ndarray": _never,  # named as an argument of _reconstruct only
}
_PYTHON_CALLS: dict[str, Callable[..., Any]] = {
    "set": lambda *args: set(*args),
    "frozenset": lambda *args: frozenset(*args),
    "bytearray": _to_bytearray,
    "bytes": lambda *args: _to_bytes(*args),
}


class _Unpickler(pickle._Unpickler):
    """Python's unpickler written in Python: the one in C allocates 32 GiB of zeros if four bytes demand it."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the replacement for a name; raises UnpicklingError if there is none."""
        call: Callable[..., Any] | None = None
        if module in _NUMPY:
            call = _NUMPY_CALLS.get(name)
        elif module in ("builtins", "__builtin__"):
            call = _PYTHON_CALLS.get(name)
        elif (module, name) == ("_codecs", "encode"):
            call = _to_bytes
        if call is None:
            raise pickle.UnpicklingError(f"the name {module[:80]}.{name[:80]}, which is not plain data")
        return _Global(call)


def read_pickle(path: Path, max_bytes: int) -> Any:
    """Read dicts, lists, tuples, sets, numbers, text, bytes and arrays (as `PickledArray`); InputError for others.

    Nothing that the file names is imported or called. Also raises InputError for a broken file or one above
    `max_bytes`.
    """
    try:
        if path.stat().st_size > max_bytes:
            raise InputError(f"the file is larger than {max_bytes >> 20} MiB")
        return load_pickle(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError("the file does not exist") from error
    except OSError as error:
        raise InputError(f"the file cannot be read ({error})") from error


def load_pickle(data: bytes) -> Any:
    """Read the bytes of a pickle as `read_pickle` does; raises InputError for what is refused or broken."""
    try:
        return _Unpickler(io.BytesIO(data), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise InputError(f"the pickle is refused or broken: it holds {error}") from error
    # On broken bytes the unpickler raises nearly anything, even MemoryError; to a caller all mean the same.
    except Exception as error:
        raise InputError(f"the pickle is broken ({type(error).__name__}: {str(error)[:200]})") from error
