"""Open the authors' files without running what is in them, and say what a file is that holds no weights.

`.pth` files are read with `weights_only=True` and stand-ins for the few classes that people pickle beside weights;
there is no fallback to a full unpickle. Weights in `.safetensors` are read as they are.
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
"""Names under which files hold their state dict; the first that does counts."""
AVERAGES = ("state_dict_ema", "ema_state_dict", "model_ema", "ema", "params_ema")
"""The same of averages beside it, which count if there is nothing else."""
COUNTER = "n_averaged"
"""Beside the weights of torch's AveragedModel: of how many it is the average."""

OPTIMIZERS = ("optim", "param_groups")
"""How names begin under which training keeps its own state."""
DEEPEST = 3
"""Dicts in dicts in which tensors are looked for."""

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
    said: list[warnings.WarningMessage] | None = []
    try:
        with stand_ins(), warnings.catch_warnings(record=True) as said:  # of torch, about files that it then refuses
            warnings.simplefilter("always")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler finds, the file is refused and named
        raise _unreadable(path, _reason(error, " ".join(str(warning.message) for warning in said or ()))) from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Weights:
    """State dict of a file; `place`: where in the file it was; `prefix`: what was stripped, as all names had it."""

    state: dict[str, Tensor]
    place: str = ""
    prefix: str = ""


def read_weights(path: Path) -> Weights:
    """Open a `.pth` or `.safetensors` and find its weights; raises InputError if it holds none."""
    return weights_of(read_file(path), path)


def weights_of(content: Any, path: Path) -> Weights:
    """Find the weights in what `read_file` returned; raises InputError that says what is there instead."""
    if isinstance(content, list | tuple) and content and all(isinstance(part, Mapping) for part in content):
        raise InputError(
            f"{path} holds a list of {len(content)} checkpoints, the stages of one training: such files are not "
            "supported; save the stage that you want as a file of its own"
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
    """The weights of a state dict without what lies beside them; {} if it is none, as where more of them lie deeper."""
    if not isinstance(content, dict):
        return {}
    found = {str(key): tensor for key, value in content.items() if (tensor := _tensor(value)) is not None}
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if any(_is_weight(value) for value in tensors.values()):  # arrays beside tensors are no weights
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
    """Names on the way to each dict inside `content` that may be weights, and no optimiser's."""
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
        return f"holds tensors in {shown}, which are no known names of weights (save the one that you want alone)"
    if any(name.startswith(OPTIMIZERS) for name in names):
        return "holds no weights but the state of an optimiser"
    return "holds no weights"


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


def _reason(error: Exception, said: str) -> str:
    """Why torch refused a file, of which it `said` this, without its advice to read it unsafely."""
    text = str(error).strip()
    wanted = re.search(r"GLOBAL ([\w.]+)", text)
    if wanted:
        return (
            f"it wants to create or run {wanted[1]}, which weights never need; it is refused, nothing of it was run "
            "(a file with nothing but the state dict is taken)"
        )
    protocol = re.search(r"Detected pickle protocol (\d)", said)
    if protocol and "Unsupported operand" in text:
        return (
            f"it was pickled by protocol {protocol[1]}, and protocol 2 is what can be read without running anything: "
            "save it by torch.save without pickle_protocol"
        )
    if refused := re.search(r"Can only [^,]*?(append|extend|SETITEM|create|build).*but got (.*)", text, re.IGNORECASE):
        return (
            f"it holds a collection or object of a kind that weights never need ({refused[2].strip()}): save it without"
        )
    if isinstance(error, RuntimeError | EOFError | OSError):
        line = text.splitlines()[0] if text else type(error).__name__
        return f"it is truncated or damaged: {AGAIN} ({line})"
    return "torch.save did not write it, or it is damaged"
