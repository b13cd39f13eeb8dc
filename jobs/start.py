"""The start of a training run: a checkpoint, fresh weights, or a backbone with timm's weights."""

import dataclasses
from pathlib import Path

from jobs.cli import checkpoint_source
from jobs.config import TrainConfig
from jobs.evaluate import RECOMMENDED, label
from models import checkpoint as checkpoints
from models.box import DEFAULT
from models.errors import InputError
from models.networks.base import Network
from models.networks.lite import Lite
from models.published.importing import fresh, plain
from models.published.timm_weights import load_pretrained
from models.storage import Storage, joined
from models.working import place_of, put
from pipeline.data.config import DataConfig
from pipeline.training.job import START


def of_checkpoint(config: TrainConfig) -> TrainConfig:
    """Find the starting checkpoint, and fill in network and crop size from it if the config names no network.

    Raises InputError if the checkpoint is of another network than the named one.
    """
    chosen, data = config.network, config.data
    if chosen.start_from is None and (chosen.name or chosen.fresh):
        if not chosen.name:
            raise InputError("--network.fresh needs a network: give --network.name as well")
        return config
    start = checkpoint_source("--network.start-from", chosen.start_from or DEFAULT)
    description = checkpoints.describe(start)
    if chosen.name not in ("", description["network"]):
        raise InputError(
            f"--network.start-from {chosen.start_from} is a checkpoint of {description['network']}: give one of "
            f"{chosen.name}, or --network.name {description['network']}"
        )
    sides = description["config"].get("input_hw")
    if not chosen.name and sides and data.crop_hw == DataConfig().crop_hw:
        augment = data.augment
        if augment.scale is None and tuple(sides) != data.crop_hw:
            # The crop then shows as much of a photo as a crop of the default size would.
            ratio = min(sides) / min(data.crop_hw)
            augment = dataclasses.replace(augment, scale=(round(0.75 * ratio, 3), round(1.4 * ratio, 3)))
        data = dataclasses.replace(data, crop_hw=tuple(sides), augment=augment)
    network = dataclasses.replace(chosen, name=description["network"], start_from=start)
    return dataclasses.replace(config, data=data, network=network)


def refinement_of(start: str | None, network: Network) -> str:
    """Return the name of the refinement that a checkpoint recommends, or else of its network's default."""
    recommended = None if start is None else checkpoints.describe(start)["info"].get("refinement")
    name = RECOMMENDED if recommended is None else label(recommended)
    return plain(network) if name == RECOMMENDED else name


def start_of(config: TrainConfig, run: Path) -> str | None:
    """Return the starting checkpoint; with `--network.pretrained` it is created in the run's folder, once.

    Workers then need no internet, and a resumed run starts from the same weights. Raises InputError if timm's weights
    cannot be loaded.
    """
    network, place = config.network, joined(place_of(run), START)
    if not network.pretrained:
        return network.start_from
    if not Storage(place).exists(checkpoints.DESCRIPTION):
        built = fresh(network.name, config.training.seed, **network.options(config.data.crop_hw))
        assert isinstance(built, Lite)
        checkpoints.save(built, run / START, **load_pretrained(built))
        put(run / START)
    return place
