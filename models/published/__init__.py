"""Load the authors' checkpoints into our networks: rename their tensors, load strictly and report.

To add a family, add a file with its Family and a line in FAMILIES.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.errors import InputError
from models.fit import check_fit, check_values, shapes_of
from models.interaction import Clicks
from models.networks.base import Network
from models.published.emc import EMC_HRNET, EMC_SEGFORMER
from models.published.family import Family
from models.published.files import Weights, read_weights, refuse_lfs_pointer, sha256
from models.published.focuscut import FOCUSCUT
from models.published.hrnet import RITM
from models.published.icmformer import ICMFORMER, ICMFORMER_SWIN
from models.published.plain_vit import SIMPLECLICK
from models.published.prefixes import prefix_note
from models.published.sam import MOBILE_SAM, SAM, SAM2

__all__ = ["FAMILIES", "Report", "family", "load", "load_strict", "pack_clicks", "refuse_lfs_pointer"]

FAMILIES: tuple[Family, ...] = (
    SIMPLECLICK,
    RITM,
    EMC_HRNET,
    EMC_SEGFORMER,
    FOCUSCUT,
    ICMFORMER,
    ICMFORMER_SWIN,
    SAM,
    MOBILE_SAM,
    SAM2,
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """Result of loading: counts of tensors, and the SHA-256 and shared prefix of a file ("" for a state dict).

    Of the file's tensors, `num_loaded` were loaded, `num_dead` are known but used by no forward, and `num_aliases`
    repeat another tensor. `dead_parameters` counts the values of dead tensors, aliases and unused parts of tensors.
    `missing_dead` names dead tensors that this file lacks, which is harmless.
    """

    num_loaded: int
    num_dead: int
    num_aliases: int
    dead_parameters: int
    missing_dead: tuple[str, ...] = ()
    sha256: str = ""
    prefix: str = ""


def family(network: Network) -> Family:
    """Return the family whose published files fit a network; raises InputError if there is none."""
    fitting = [known for known in FAMILIES if network.name.startswith(known.prefix)]
    if not fitting:
        raise InputError(
            f"no published checkpoints are known for network {network.name!r}: expected one of "
            f"{', '.join(known.prefix + '*' for known in FAMILIES)}"
        )
    return max(fitting, key=lambda known: len(known.prefix))


def load(network: Network, source: str | Path | Mapping[str, Tensor]) -> Report:
    """Load published weights, in place; `source` is a file or a state dict under the authors' names.

    Raises InputError, before anything is loaded, that names every tensor that is missing, unused, of another shape or
    type, or not finite.
    """
    if isinstance(source, str | Path):
        weights, digest = read_weights(Path(source)), sha256(Path(source))
    else:
        weights, digest = Weights(state=dict(source)), ""
    ours, report = translate(network, weights.state)
    own = network.state_dict()
    check_values(f"this published checkpoint does not fit network {network.name}:", own, ours)
    try:
        load_strict(network, ours, what="published checkpoint")
    except InputError as error:
        raise InputError(f"{error}{prefix_note(weights.state, own, family(network).rename)}") from error
    return dataclasses.replace(report, sha256=digest, prefix=weights.prefix)


def translate(network: Network, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Report]:
    """Return published tensors under our names, without those that no forward uses; the network is not changed.

    Raises InputError if an unused tensor has an unexpected shape, or an alias differs from the tensor that it repeats.
    Tensors may be on the meta device (shapes only).
    """
    known = family(network)
    dead = known.dead(network.config)
    ours: dict[str, Tensor] = {}
    num_dead = num_aliases = dead_parameters = 0
    wrong: list[str] = []
    for key, tensor in state.items():
        original = known.alias(key)
        if original is not None:
            num_aliases, dead_parameters = num_aliases + 1, dead_parameters + tensor.numel()
            if not _repeats(tensor, state.get(original)):
                wrong.append(f"{key} differs from {original}, to which it should be equal")
        elif key in dead:
            num_dead, dead_parameters = num_dead + 1, dead_parameters + tensor.numel()
            if tuple(tensor.shape) != dead[key]:
                wrong.append(f"{key}: {tuple(tensor.shape)} given, {dead[key]} expected")
        else:
            name = known.rename(key)
            ours[name] = known.reshape(key, tensor)
            dead_parameters += tensor.numel() - ours[name].numel()
    if wrong:
        raise InputError(
            f"this published checkpoint does not fit network {network.name}:\n  "
            f"{len(wrong)} unused tensors are not as expected: {'; '.join(wrong[:5])}"
        )
    return ours, Report(
        num_loaded=len(ours),
        num_dead=num_dead,
        num_aliases=num_aliases,
        dead_parameters=dead_parameters,
        missing_dead=tuple(sorted(dead.keys() - state.keys())),
    )


def _repeats(tensor: Tensor, original: Tensor | None) -> bool:
    if original is None or tensor.shape != original.shape:
        return False
    return tensor.is_meta or torch.equal(tensor, original)


def load_strict(network: Network, state: dict[str, Tensor], what: str) -> None:
    """Load weights under our names; raises InputError, before anything is loaded, listing tensors that do not fit."""
    state = network.fit_state(state)
    title = f"this {what} does not fit network {network.name or type(network).__name__}:"
    check_fit(title, shapes_of(network.state_dict()), shapes_of(state))
    network.load_state_dict(state)


def pack_clicks(clicks: Clicks, limit: int | None = None) -> Tensor:
    """Pack clicks as input of the authors' networks: float32 (1, 2n, 3), rows (y, x, order).

    Positive clicks come first, negative ones from row n on; unused rows are -1. `limit` keeps only the first clicks and
    bounds n (docs/PAPERS.md, RITM: clicks as maps).
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
