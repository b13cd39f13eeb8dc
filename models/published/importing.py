"""Import a published file into one of our networks, as the whole model, its backbone, or its base network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models import checkpoint
from models.errors import InputError, lookup
from models.fingerprints import trained_on
from models.networks import NETWORKS, create
from models.networks.base import Network
from models.networks.emc import EmcVit
from models.networks.lite import Lite, LiteConfig, around
from models.published import Report, family, load
from models.published.efficientnet import by_timm
from models.published.family import UNKNOWN_LICENCE
from models.published.files import Weights, read_file, sha256, weights_of
from models.published.prefixes import prefix_note
from models.published.recognise import (
    PublishedConfig,
    backbone_kind,
    check_behaviour,
    claimed,
    config_of,
    fits,
    fitting,
    is_model,
)
from models.published.sam_onnx import read_pair


@dataclass(frozen=True, kw_only=True)
class Source:
    """Origin of weights: `published_class` is the class in the file's config, `place` and `prefix` are Weights'."""

    file: str
    sha256: str
    published_class: str | None = None
    licence: str = UNKNOWN_LICENCE
    place: str = ""
    prefix: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Imported:
    """A network with a file's weights.

    `report` is set for a whole model, and `started`, the names of the tensors that were set, for a part. `refinement`
    is the name of the one with which the authors evaluate such weights. `photos` holds the fingerprints of the training
    photos if the weights come from a Maskwright checkpoint.
    """

    network: Network
    source: Source
    report: Report | None = None
    started: tuple[str, ...] = ()
    refinement: str = "standard"
    photos: frozenset[int] = frozenset()


def import_model(path: Path, name: str) -> Imported:
    """Load a published model strictly into network `name`.

    Raises InputError if the file holds anything else; the error names the network that it holds, if known.
    """
    return _published(path, name, None)


def import_pair(encoder: Path, decoder: Path, name: str) -> Imported:
    """Load MobileSAM strictly from the two ONNX files that web pages use; `name` must be its network.

    Raises InputError if the files hold anything else.
    """
    lookup("network", name, NETWORKS)
    if name != "mobile_sam":
        raise InputError(f"--network {name}: two files are MobileSAM's encoder and decoder; pass --network mobile_sam")
    network = fresh(name)
    try:
        report = load(network, read_pair(encoder, decoder))
    except InputError as error:
        raise InputError(f"{encoder} and {decoder}: {error}") from error
    source = Source(
        file=f"{encoder.name} {decoder.name}",
        sha256=f"{sha256(encoder)} {sha256(decoder)}",
    )
    return Imported(network=network.eval(), source=source, report=report, refinement=family(network).refinement)


def _published(path: Path, name: str, built_on_it: str | None) -> Imported:
    """Load a whole published model; `built_on_it` names the network for which it will be the base."""
    lookup("network", name, NETWORKS)
    weights, config = _read(path)
    state = weights.state
    if kind := backbone_kind(state):
        raise InputError(
            f"{path} holds a backbone ({kind}), not a whole click-to-mask model: pass --as backbone to start "
            f"{built_on_it or name} from it"
        )
    names = _other_networks(path, config, name, state)
    if names:
        raise _misfit(path, names, name, built_on_it)
    network = fresh(name)
    try:
        report = load(network, state)
    except InputError as error:
        names = [other for other in fitting(state) if other != name]
        raise _misfit(path, names, name, built_on_it) if names else InputError(f"{path}: {error}") from error
    known = family(network)
    source = _source(path, weights, config, known.licence)
    return Imported(network=network.eval(), source=source, report=report, refinement=known.refinement)


def import_backbone(path: Path, name: str, seed: int = 0, backbone: str | None = None) -> Imported:
    """Build network `name` with fresh weights by seed, and load its backbone from a file of timm, MAE, torchvision, ...

    `backbone` is timm's name of another backbone for a `lite_*` network. Raises InputError if the file does not hold
    this network's backbone.
    """
    lookup("network", name, NETWORKS)
    weights, config = _read(path)
    state = weights.state
    if is_model(state):
        names = fitting(state)
        which = f" ({names[0]})" if names else ""
        raise InputError(f"{path} holds a whole click-to-mask model{which}, not a backbone: leave out --as backbone")
    if backbone is not None and not isinstance(NETWORKS[name], LiteConfig):
        raise InputError(f"network {name} has a fixed backbone: use --backbone only for lite_*")
    network = fresh(name, seed, **({} if backbone is None else around(backbone)))
    try:
        if isinstance(network, Lite):
            state = by_timm(state, network.config.backbone)
        started = network.load_backbone({key.removeprefix("backbone."): tensor for key, tensor in state.items()})
    except InputError as error:
        kind = backbone_kind(state)
        note = prefix_note(state, {key.removeprefix("backbone.") for key in network.state_dict()})
        raise InputError(f"{path}{f' holds a {kind}' if kind else ''}: {error}{note}") from error
    source = _source(path, weights, config)
    return Imported(network=network.eval(), source=source, started=tuple(started), refinement=plain(network))


def import_base(path: Path, name: str, seed: int = 0) -> Imported:
    """Build network `name` (emc_vit_*, lite_s) with fresh weights by seed, and load its base from another network.

    `path` is a Maskwright checkpoint or a published file. Raises InputError if it does not hold that network.
    """
    lookup("network", name, NETWORKS)
    wanted = base_name(name)
    if wanted is None:
        raise InputError(f"network {name} has no base network: use --as base only for emc_vit_* and lite_s")
    if path.is_dir():
        base, description = checkpoint.load(path, expected_network=wanted)
        licence = description.get("info", {}).get("licence", UNKNOWN_LICENCE)
        source = Source(file=path.name, sha256=description["sha256"], licence=licence)
        photos = trained_on(description)
    else:
        whole = _published(path, wanted, name)
        base, source, photos = whole.network, whole.source, set()
    network = fresh(name, seed)
    assert isinstance(network, EmcVit | Lite)
    started = network.load_base(base.state_dict())
    return Imported(
        network=network.eval(),
        source=source,
        started=tuple(started),
        refinement=plain(network),
        photos=frozenset(photos),
    )


def plain(network: Network) -> str:
    """Return the name of the refinement with one look and the mask threshold of this kind of network."""
    return "sam" if network.traits.prompted else "standard"


def base_name(name: str) -> str | None:
    """Return the name of the network that is the base of network `name`, if that is an emc_vit_* or lite_s."""
    if name == "lite_s":
        return "mobile_sam"
    return name.replace("emc_vit", "simpleclick_vit") if name.startswith("emc_vit") else None


def fresh(name: str, seed: int = 0, **options: Any) -> Network:
    """Build a registered network with fresh weights by seed; torch's random state does not change."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create(name, **options)


def fresh_groups(network: Network, started: tuple[str, ...]) -> dict[str, int]:
    """Return the outermost parts of a network of which no tensor was set, with their numbers of tensors."""
    groups: dict[str, int] = {}
    for name in network.state_dict().keys() - set(started):
        parts = name.split(".")
        starts = (".".join(parts[:end]) for end in range(1, len(parts) + 1))
        group = next((s for s in starts if not any(other == s or other.startswith(f"{s}.") for other in started)), name)
        groups[group] = groups.get(group, 0) + 1
    return dict(sorted(groups.items()))


def _read(path: Path) -> tuple[Weights, PublishedConfig | None]:
    folder = path if path.is_dir() else path.parent
    if (folder / checkpoint.DESCRIPTION).is_file() and (path.is_dir() or path.name == checkpoint.WEIGHTS):
        raise InputError(f"{folder} is a Maskwright checkpoint already: use the folder itself instead of importing it")
    if path.suffix == ".onnx":
        raise InputError(
            f"{path} is an ONNX file: expected MobileSAM's pair, ENCODER.onnx DECODER.onnx --network mobile_sam; ONNX "
            "files of other networks cannot be read"
        )
    content: Any = read_file(path)
    return weights_of(content, path), config_of(content)


def _source(path: Path, weights: Weights, config: PublishedConfig | None, licence: str = UNKNOWN_LICENCE) -> Source:
    return Source(
        file=path.name,
        sha256=sha256(path),
        published_class=None if config is None else config.class_name,
        licence=licence,
        place=weights.place,
        prefix=weights.prefix,
    )


def _other_networks(path: Path, config: PublishedConfig | None, name: str, state: dict[str, Tensor]) -> list[str]:
    """Return the networks that the file's config names instead of `name`; [] if `name` may be right.

    Raises InputError if the config has a shape that no registered network has, or a behaviour that ours do not have.
    """
    names = None if config is None else claimed(config)
    if config is None or names is None:
        return []
    if not names:
        plain = {key: value for key, value in config.params.items() if isinstance(value, bool | int | float | str)}
        shown = ", ".join(f"{key}={value}" for key, value in plain.items())
        raise InputError(f"{path} is of class {config.class_name} with {shown}: no registered network has this shape")
    if name not in names:
        return [other for other in names if fits(other, state)] or names
    check_behaviour(config, name)
    return []


def _misfit(path: Path, names: list[str], name: str, built_on_it: str | None) -> InputError:
    advice = f"pass --network {names[0]}" if built_on_it is None else f"the base of {built_on_it} is {name}"
    if base_name(name) in names:
        advice += f", or --as base to build {name} on it"
    return InputError(f"{path} holds {' or '.join(names)}: {advice}")
