"""Read the authors' checkpoints into our networks: key mapping, strict, with a report.

`.pth` files are opened with `weights_only=True` and inert stand-ins for the few classes that their configs pickle;
there is no fallback to a full unpickle.
"""

import collections
import hashlib
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.errors import InputError
from models.interaction import Clicks
from models.networks.base import Network

DEAD = ""
"""What a key rule answers for a tensor that published files carry but no forward uses."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of loading: counts, and the SHA-256 of the file ("" for a state dict)."""

    num_loaded: int
    num_dead: int
    dead_parameters: int
    sha256: str = ""


def simpleclick_key(key: str) -> str:
    """Our name of a published SimpleClick / CFR-ICL (plain ViT) tensor."""
    dead = ("backbone.cls_token", "backbone.fc_norm.", "backbone.head.", "head.up_conv1.", "head.up_conv2.")
    return DEAD if key.startswith(dead) else key


def simpleclick_tensor(key: str, tensor: Tensor) -> Tensor:
    """Our form of a published tensor: the positional embedding without the unused class token's slot."""
    return tensor[:, 1:] if key == "backbone.pos_embed" else tensor


KEY_RULES: dict[str, tuple[Callable[[str], str], Callable[[str, Tensor], Tensor]]] = {
    "simpleclick": (simpleclick_key, simpleclick_tensor),
}


def family(network: Network) -> str:
    """Name of the key rule that fits a network; raises InputError if its family has none."""
    name = network.name.split("_")[0]
    if name not in KEY_RULES:
        raise InputError(f"no published checkpoints are known for network {network.name!r}: known {list(KEY_RULES)}")
    return name


def pack_clicks(clicks: Clicks, limit: int | None = None) -> Tensor:
    """Pack clicks the way the authors' networks take them: float32 (1, 2n, 3), rows (y, x, order).

    First the positive clicks, then, from row n on, the negative ones; unused rows are -1. `limit` keeps the first
    clicks only and bounds n, which otherwise is that of the whole list (spec section 1).
    """
    num_positive = int(clicks.positive.sum())
    half = max(1, num_positive, len(clicks) - num_positive)
    half = half if limit is None else min(half, max(1, limit))
    packed = torch.full((1, 2 * half, 3), -1.0)
    kept = clicks.first(limit)
    for start, sign in ((0, True), (half, False)):
        order = torch.from_numpy((kept.positive == sign).nonzero()[0])
        rows = slice(start, start + len(order))
        packed[0, rows, :2] = torch.from_numpy(kept.yx)[order].float()
        packed[0, rows, 2] = order.float()
    return packed


def load(network: Network, source: str | Path | Mapping[str, Tensor]) -> Report:
    """Load published weights, in place; `source` is a file or a state dict under the authors' names.

    Raises InputError that names every tensor that is missing, left over or of another shape: then nothing was loaded.
    """
    if isinstance(source, str | Path):
        state, sha256 = read_state(Path(source)), hashlib.sha256(Path(source).read_bytes()).hexdigest()
    else:
        state, sha256 = dict(source), ""
    rename, reshape = KEY_RULES[family(network)]
    ours: dict[str, Tensor] = {}
    num_dead = dead_parameters = 0
    for key, tensor in state.items():
        name = rename(key)
        if name == DEAD:
            num_dead, dead_parameters = num_dead + 1, dead_parameters + tensor.numel()
        else:
            ours[name] = reshape(key, tensor)
            dead_parameters += tensor.numel() - ours[name].numel()
    load_strict(network, ours, what="published checkpoint")
    return Report(num_loaded=len(ours), num_dead=num_dead, dead_parameters=dead_parameters, sha256=sha256)


def load_strict(network: Network, state: dict[str, Tensor], what: str) -> None:
    """Load weights under our names or raise InputError listing what does not fit; then nothing was loaded."""
    state = network.fit_state(state)
    wanted = network.state_dict()
    missing = sorted(wanted.keys() - state.keys())
    left_over = sorted(state.keys() - wanted.keys())
    shapes = [
        f"{key}: {tuple(state[key].shape)} given, {tuple(wanted[key].shape)} expected"
        for key in sorted(wanted.keys() & state.keys())
        if state[key].shape != wanted[key].shape
    ]
    if missing or left_over or shapes:
        lines = [f"this {what} does not fit network {network.name or type(network).__name__}:"]
        for title, names in (("missing", missing), ("not used", left_over), ("of another shape", shapes)):
            if names:
                more = f" and {len(names) - 5} more" if len(names) > 5 else ""
                lines.append(f"  {len(names)} tensors {title}: {', '.join(names[:5])}{more}")
        raise InputError("\n".join(lines))
    network.load_state_dict(state)


def refuse_lfs_pointer(path: Path) -> None:
    """Raise InputError if Git left a pointer where the weights should be."""
    if path.is_file():
        with path.open("rb") as file:
            if file.read(24).startswith(b"version https://git-lfs"):
                raise InputError(f"{path} is a Git LFS pointer, not the weights: fetch them with `git lfs pull`")


def read_state(path: Path) -> dict[str, Tensor]:
    """Open a `.pth` without running what is in it: its state dict, on the CPU; raises InputError if it is none."""
    if not path.is_file():
        raise InputError(f"no checkpoint file at {path}")
    refuse_lfs_pointer(path)
    try:
        with _StandIns():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler finds, the file is refused and named
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} cannot be read as a checkpoint: {reason}") from error
    state = content.get("state_dict", content) if isinstance(content, dict) else None
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
