"""Read and write checkpoints: folders with `weights.safetensors` and `checkpoint.json`, never a pickle.

The JSON holds the network's name and full config, the default refinement and the origin of the weights, so evaluate,
serve and Predictor need nothing but the folder. Functions that read a checkpoint also accept `maskwright:NAME` or an
address (s3://BUCKET/FOLDER) in place of a folder (models/box).
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from models import box, fingerprints
from models.errors import InputError
from models.files import make_folder, whole_file, write_json
from models.networks import NETWORKS, create
from models.networks.base import Network
from models.published import load_strict, refuse_lfs_pointer
from models.storage import Storage, is_address, without_key

FORMAT_VERSION = 1
DESCRIPTION, WEIGHTS = box.FILES
Place = TypeVar("Place", str, Path)


def save(
    network: Network,
    folder: str | Path,
    *,
    state: dict[str, Tensor] | None = None,
    photos: Collection[int] = (),
    **info: Any,
) -> Path:
    """Write a checkpoint folder; `info` (JSON values) is stored beside the network's config.

    `state`: weights to write instead of `network.state_dict()`, such as those gathered by FSDP, or `in_half(network)`.
    `photos`: fingerprints of the training photos (models/fingerprints.py).

    Each file is written atomically, the weights first and the description last, so a folder with a description is
    complete. Raises InputError if the files cannot be written.
    """
    if network.prepared:
        raise InputError("this network was prepared for inference (models.inference): save it before preparing it")
    folder = make_folder(folder)
    tensors = network.state_dict() if state is None else state
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    # The inner context exits first, so the weights appear before the description.
    with whole_file(folder / DESCRIPTION) as described, whole_file(folder / WEIGHTS) as weights:
        save_tensors(state, weights)
        description = {
            "format": FORMAT_VERSION,
            "network": network.name,
            "config": dataclasses.asdict(network.config),
            "sha256": _sha256(weights),
            "info": info,
            **({fingerprints.KEY: fingerprints.pack(photos)} if photos else {}),
        }
        described.write_text(json.dumps(description, indent=2) + "\n")
    return folder


def in_half(network: Network) -> dict[str, Tensor]:
    """Return a network's weights for `save`, with matrices and kernels in half precision.

    Vectors and buffers (batch norm's statistics, SAM's frequencies) keep their type, since together they are small.
    Raises InputError if a weight is too large for half precision.
    """
    large = {name for name, weight in network.named_parameters(remove_duplicate=False) if weight.ndim > 1}
    state = {name: tensor.half() if name in large else tensor for name, tensor in network.state_dict().items()}
    beyond = [name for name in sorted(large) if not state[name].isfinite().all()]
    if beyond:
        raise InputError(
            f"{beyond[0]} has weights beyond 65504, the largest half-precision number: keep this checkpoint in float32"
        )
    return state


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file; raises OSError if it cannot be written, as other writers do."""
    try:
        save_file(dict(tensors), path)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def copy(source: str | Path, folder: Place) -> Place:
    """Copy a checkpoint into a folder and return `folder`; either may be an address. Replaces an existing checkpoint.

    Raises FileNotFoundError if `source` holds no checkpoint, and InputError if an address cannot be read or the copy
    cannot be written.
    """
    if is_address(source) or is_address(folder):
        given, made = Storage(str(source if is_address(source) else box.resolve(source))), Storage(str(folder))
        for name in (WEIGHTS, DESCRIPTION):  # the description last: a folder that has one is complete
            if given.state(name) is None:
                raise FileNotFoundError(given.path(name))
            with given.reading(name) as file, made.writing(name) as copied:
                shutil.copyfileobj(file, copied, 2**20)
        return folder
    source, target = box.resolve(source), make_folder(folder)
    with (
        (source / WEIGHTS).open("rb") as given_weights,
        (source / DESCRIPTION).open("rb") as given_description,
        whole_file(target / DESCRIPTION) as described,
        whole_file(target / WEIGHTS) as weights,
    ):
        for given, part in ((given_weights, weights), (given_description, described)):
            with part.open("wb") as file:
                shutil.copyfileobj(given, file, 2**20)
    return folder


def describe(folder: str | Path) -> dict[str, Any]:
    """Read a checkpoint's description; raises InputError if the folder is not a Maskwright checkpoint."""
    given, folder = without_key(str(folder)), box.resolve(folder)
    path = folder / DESCRIPTION
    if not path.is_file():
        raise InputError(
            f"no checkpoint at {given}: expected a folder with {DESCRIPTION} and {WEIGHTS}, as jobs.train writes it, "
            f"or the name of a model, such as {box.DEFAULT}"
        )
    try:
        description = json.loads(path.read_text())
        version = description["format"]
        name, config = description["network"], description["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is not a checkpoint description: {error}") from error
    if version != FORMAT_VERSION:
        raise InputError(f"{path} has format {version}: this version reads format {FORMAT_VERSION}")
    if name not in NETWORKS:
        raise InputError(f"{path} names network {name!r}, which is unknown; known: {', '.join(NETWORKS)}")
    if not isinstance(config, dict):
        raise InputError(f"{path} has config {config!r}: expected an object with its fields")
    return description


def network_of(description: dict[str, Any], **options: Any) -> Network:
    """Build the network that a description names, with fresh weights; `options` replace fields of its config.

    A field that the config lacks was added after the checkpoint was written. It takes the default of the config's
    class, which keeps the earlier behaviour, and not the value of the registered network.
    """
    fields = dataclasses.fields(NETWORKS[description["network"]])
    defaults = {each.name: each.default for each in fields if each.default is not dataclasses.MISSING}
    return create(description["network"], **defaults | description["config"] | options)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(folder: str | Path, expected_network: str | None = None, **options: Any) -> tuple[Network, dict[str, Any]]:
    """Load a checkpoint: return the network in eval mode and the description.

    `options` replace fields of the saved config, such as `input_hw` (the positional embedding is resized). Weights in
    half precision become float32. Raises InputError if the folder is not a checkpoint, is damaged, or holds another
    network than `expected_network`.
    """
    description, folder = describe(folder), box.resolve(folder)
    if expected_network is not None and description["network"] != expected_network:
        raise InputError(
            f"{folder} is a checkpoint of network {description['network']!r}: expected {expected_network!r}"
        )
    refuse_lfs_pointer(folder / WEIGHTS)
    try:
        stored = load_file(folder / WEIGHTS)
        given = _sha256(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{folder / WEIGHTS} cannot be read: {error}") from error
    network = network_of(description, **options)
    state = {name: tensor.float() if tensor.dtype is torch.half else tensor for name, tensor in stored.items()}
    load_strict(network, state, what="checkpoint")
    if given != description.get("sha256"):
        raise InputError(
            f"{folder / WEIGHTS} is damaged or belongs to another checkpoint: its SHA-256 is {given}, "
            f"{DESCRIPTION} says {description.get('sha256')}"
        )
    return network.eval(), description


def recommend(folder: str | Path, refinement: dict[str, Any]) -> None:
    """Change the refinement that a checkpoint recommends (its fields as JSON values); the weights are not touched."""
    if is_address(folder):
        raise InputError(
            f"the checkpoint at {without_key(str(folder))} cannot be changed in place: copy its folder to a local disk "
            "and pass the copy"
        )
    description = describe(folder)
    description["info"]["refinement"] = refinement
    write_json(box.resolve(folder) / DESCRIPTION, description)
