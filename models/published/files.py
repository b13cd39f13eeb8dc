"""Open the authors' files without running what is in them, and say what a file is that holds no weights.

`.pth` files are read with `weights_only=True` and inert stand-ins for the few classes that their configs pickle; there
is no fallback to a full unpickle. Weights in `.safetensors` are read as they are.
"""

import collections
import hashlib
import re
import sys
import types
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.errors import InputError

AGAIN = "download it again"
ARCHIVES = {b"7z\xbc\xaf\x27\x1c": "7z", b"\x1f\x8b": "gzip", b"Rar!": "rar", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_lfs_pointer(path: Path) -> None:
    """Raise InputError if Git left a pointer where the weights should be."""
    if path.is_file():
        with path.open("rb") as file:
            if file.read(24).startswith(b"version https://git-lfs"):
                raise InputError(f"{path} is a Git LFS pointer, not the weights: fetch them with `git lfs pull`")


def read_file(path: Path) -> Any:
    """Whatever a `.pth` or `.safetensors` holds, on the CPU.

    Raises InputError if it cannot be read, is something else, or wants to run something: then nothing of it ran.
    """
    start = _start(path)
    if path.suffix == ".safetensors" or start[8:10] == b'{"':
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise _unreadable(path, f"it is truncated or damaged: {AGAIN} ({error})") from error
    if start.startswith(b"PK"):
        _check_zip(path)
    try:
        with _StandIns(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about files that it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler finds, the file is refused and named
        raise _unreadable(path, _reason(error)) from error


def read_state(path: Path) -> dict[str, Tensor]:
    """Open a `.pth` or `.safetensors` and return its state dict; raises InputError if it holds none."""
    return state_of(read_file(path), path)


def state_of(content: Any, path: Path) -> dict[str, Tensor]:
    """Find the state dict in what `read_file` returned; raises InputError that says what is there instead."""
    if isinstance(content, list | tuple) and content and all(isinstance(part, Mapping) for part in content):
        raise InputError(
            f"{path} holds a list of {len(content)} checkpoints, the stages of one training: such files are not "
            "supported; save the stage that you want as a file of its own"
        )
    state = content
    for key in ("state_dict", "model"):  # RITM's family; MAE's backbones
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            state = content[key]
            break
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        expected = "expected {'state_dict': ...} or a plain state dict"
        if isinstance(content, dict) and ("param_groups" in content or {"optimizer", "optimiser"} & content.keys()):
            raise InputError(f"{path} holds no weights but the state of an optimiser: {expected}")
        raise InputError(f"{path} holds no weights: {expected}")
    return {str(key): value for key, value in state.items()}


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(f"{path} cannot be read as a checkpoint: {reason}")


def _start(path: Path) -> bytes:
    """First bytes of a file; raises InputError for what is clearly no weights file."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: expected a file, .pth or .safetensors")
    if not path.is_file():
        raise InputError(f"no checkpoint file at {path}")
    refuse_lfs_pointer(path)
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise _unreadable(path, str(error)) from error
    if not start:
        raise _unreadable(path, f"it is empty (0 bytes); {AGAIN}")
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        raise _unreadable(
            path,
            "it is a web page, not weights: the download met a login, a question or an error; look at its address",
        )
    for mark, kind in ARCHIVES.items():
        if start.startswith(mark):
            raise _unreadable(path, f"it is an archive ({kind}): unpack it, and give the file that is inside")
    return start


def _check_zip(path: Path) -> None:
    """Raise InputError if a zip, which modern `.pth` files are, is damaged: torch does not look at its checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            names, broken = archive.namelist(), archive.testzip()
    except Exception as error:  # zipfile raises half a dozen kinds
        raise _unreadable(path, f"it is truncated or damaged: {AGAIN}") from error
    if broken is not None:
        raise _unreadable(path, f"it is damaged (the checksum of {broken} is wrong): {AGAIN}")
    if not any(name.endswith("/data.pkl") for name in names):
        raise _unreadable(path, "it is an archive (zip): unpack it, and give the file that is inside")


def _reason(error: Exception) -> str:
    """Why torch refused a file, without its advice to read it unsafely."""
    text = str(error).strip()
    wanted = re.search(r"GLOBAL ([\w.]+)", text)
    if wanted:
        return f"it wants to create or run {wanted[1]}, which weights never need; it is refused, nothing of it was run"
    if isinstance(error, RuntimeError | EOFError | OSError):
        line = text.splitlines()[0] if text else type(error).__name__
        return f"it is truncated or damaged: {AGAIN} ({line})"
    return "torch.save did not write it, or it is damaged"


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
