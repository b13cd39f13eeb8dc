"""Open the authors' files without running code from them, and explain files that hold no weights.

`.pth` files are read with `weights_only=True` and stand-ins for the few classes that are often pickled beside weights;
there is no fallback to a full unpickle. `.safetensors` files are read directly.
"""

import hashlib
import itertools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from models.errors import InputError
from models.published.prefixes import shared_prefix
from models.published.stand_ins import Array, stand_ins

PLACES = (
    *("state_dict", "model_state_dict", "model", "model_state", "module", "net", "network", "weights", "params"),
    "checkpoint",
)
"""Names under which files hold their state dict, in order of precedence."""
AVERAGES = ("state_dict_ema", "ema_state_dict", "model_ema", "ema", "params_ema")
"""Names of averaged weights, which are used only if there are no others."""
COUNTER = "n_averaged"
"""Number of averaged models, beside the weights of torch's AveragedModel."""

OPTIMIZERS = ("optim", "param_groups")
"""Prefixes of the names under which training stores the optimiser's state."""
DEEPEST = 3
"""Depth of nested dicts to which tensors are searched."""

AGAIN = "download it again"
ARCHIVES = {b"7z\xbc\xaf\x27\x1c": "7z", b"\x1f\x8b": "gzip", b"Rar!": "rar", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_lfs_pointer(path: Path) -> None:
    """Raise InputError if the file is a Git LFS pointer instead of weights."""
    if path.is_file():
        with path.open("rb") as file:
            if file.read(24).startswith(b"version https://git-lfs"):
                raise InputError(f"{path} is a Git LFS pointer, not the weights: fetch them with `git lfs pull`")


def read_file(path: Path) -> Any:
    """Read the content of a `.pth` or `.safetensors` file, on the CPU.

    Raises InputError if the file cannot be read, has another format, or would run code (which is then not run).
    """
    start = _start(path)
    if path.suffix == ".safetensors" or start[8:10] == b'{"':
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise _unreadable(path, f"it is truncated or damaged: {AGAIN} ({error})") from error
    if start.startswith(b"PK"):
        _check_zip(path)
    said: list[warnings.WarningMessage] | None = []
    try:
        with stand_ins(), warnings.catch_warnings(record=True) as said:  # torch warns before it refuses some files
            warnings.simplefilter("always")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler may raise anything, and the file is refused in every case
        raise _unreadable(path, _reason(error, " ".join(str(warning.message) for warning in said or ()))) from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """State dict of a file, its `place` in the file, and the shared `prefix` that was stripped from all names."""

    state: dict[str, Tensor]
    place: str = ""
    prefix: str = ""


def read_weights(path: Path) -> Weights:
    """Open a `.pth` or `.safetensors` file and find its weights; raises InputError if it holds none."""
    return weights_of(read_file(path), path)


def weights_of(content: Any, path: Path) -> Weights:
    """Find the weights in the result of `read_file`; raises InputError, naming the content, if there are none."""
    if isinstance(content, list | tuple) and content and all(isinstance(part, Mapping) for part in content):
        raise InputError(
            f"{path} holds a list of {len(content)} checkpoints, the stages of one training, which is not supported: "
            "save the stage that you want to a separate file"
        )
    places = [place for depth in range(4) for place in itertools.product((*PLACES, *AVERAGES), repeat=depth)]
    places.sort(key=lambda place: any(name in AVERAGES for name in place))
    found = next((place for place in places if _state(_at(content, place))), None)
    if found is None:
        raise InputError(f"{path} {_none_in(content)}: expected {{'state_dict': ...}} or a plain state dict")
    named = _state(_at(content, found))
    prefix = shared_prefix(named.keys())
    return Weights(
        state={key.removeprefix(prefix): value for key, value in named.items()}, place=".".join(found), prefix=prefix
    )


def _at(content: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def _state(content: Any) -> dict[str, Tensor]:
    """Return the weights of a state dict without other entries; {} if it is none, or if most weights lie deeper."""
    if not isinstance(content, dict):
        return {}
    found = {str(key): tensor for key, value in content.items() if (tensor := _tensor(value)) is not None}
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if any(_is_weight(value) for value in tensors.values()):  # arrays beside tensors are not weights
        found = {key: tensor for key, tensor in found.items() if key in tensors}
    found.pop(COUNTER, None)
    num = sum(map(_is_weight, found.values()))
    deeper = (sum(map(_is_weight, _at(content, place).values())) for place in _places_of_weights(content))
    return found if num and num >= max(deeper, default=0) else {}


def _tensor(value: object) -> Tensor | None:
    return value.tensor if isinstance(value, Array) else value if isinstance(value, Tensor) else None


def _is_weight(value: object) -> bool:
    tensor = _tensor(value)
    return tensor is not None and tensor.ndim > 0 and tensor.is_floating_point()


def _places_of_weights(content: Mapping[Any, Any], depth: int = DEEPEST) -> Iterator[tuple[str, ...]]:
    """Yield the path to each dict inside `content` that may hold weights and is not an optimiser's."""
    for key, part in content.items():
        if isinstance(part, Mapping) and depth and not str(key).startswith(OPTIMIZERS):
            if any(map(_is_weight, part.values())):
                yield (str(key),)
            yield from ((str(key), *more) for more in _places_of_weights(part, depth - 1))


def _none_in(content: Any) -> str:
    names = [str(name) for name in content] if isinstance(content, Mapping) else []
    places = list(map(".".join, _places_of_weights(content))) if names and "param_groups" not in names else []
    if places:
        shown = ", ".join(places[:5]) + (" and others" if len(places) > 5 else "")
        return f"holds tensors in {shown}, which are not known names of weights (save only the one that you want)"
    if any(name.startswith(OPTIMIZERS) for name in names):
        return "holds no weights, only the state of an optimiser"
    return "holds no weights"


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(f"{path} cannot be read as a checkpoint: {reason}")


def _start(path: Path) -> bytes:
    """Return the first bytes of a file; raises InputError if they show that it holds no weights."""
    if path.is_dir():
        raise InputError(f"{path} is a folder: expected a file, .pth or .safetensors")
    if not path.is_file():
        raise InputError(f"no checkpoint file at {path}: expected a .pth or .safetensors file")
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
            "it is a web page, not weights: the download led to a login, a question or an error; open its address "
            "in a browser",
        )
    for mark, kind in ARCHIVES.items():
        if start.startswith(mark):
            raise _unreadable(path, f"it is an archive ({kind}): unpack it and pass the file inside")
    return start


def _check_zip(path: Path) -> None:
    """Raise InputError if a zip, the format of modern `.pth` files, is damaged; torch does not verify its checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            names, broken = archive.namelist(), archive.testzip()
    except Exception as error:  # zipfile raises half a dozen types
        raise _unreadable(path, f"it is truncated or damaged: {AGAIN}") from error
    if broken is not None:
        raise _unreadable(path, f"it is damaged (the checksum of {broken} is wrong): {AGAIN}")
    if not any(name.endswith("/data.pkl") for name in names):
        raise _unreadable(path, "it is an archive (zip): unpack it and pass the file inside")


def _reason(error: Exception, said: str) -> str:
    """Explain why torch refused a file, given its warnings `said`, without its advice to load the file unsafely."""
    text = str(error).strip()
    wanted = re.search(r"GLOBAL ([\w.]+)", text)
    if wanted:
        return (
            f"it would create or run {wanted[1]}, which weights never need, so it was refused and nothing was run; "
            "save the state dict alone"
        )
    protocol = re.search(r"Detected pickle protocol (\d)", said)
    if protocol and "Unsupported operand" in text:
        return (
            f"it was pickled with protocol {protocol[1]}, but only protocol 2 can be read without running code: "
            "save it with torch.save without pickle_protocol"
        )
    if refused := re.search(r"Can only [^,]*?(append|extend|SETITEM|create|build).*but got (.*)", text, re.IGNORECASE):
        return f"it holds a collection or object of a type that weights never need ({refused[2].strip()}): remove it"
    if isinstance(error, RuntimeError | EOFError | OSError):
        line = text.splitlines()[0] if text else type(error).__name__
        return f"it is truncated or damaged: {AGAIN} ({line})"
    return "it was not written by torch.save, or is damaged"
