"""What a run of training starts from: a checkpoint, fresh weights, or timm's weights of a backbone in fresh ones."""

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
    """Find the checkpoint of a run, and fill in what a run without a network's name takes from it: network, crop size.

    Raises InputError if it is none of the network that is named.
    """
    chosen, data = config.network, config.data
    if chosen.start_from is None and (chosen.name or chosen.fresh):
        if not chosen.name:
            raise InputError("--network.fresh trains fresh weights: say of which network with --network.name")
        return config
    start = checkpoint_source("--network.start-from", chosen.start_from or DEFAULT)
    description = checkpoints.describe(start)
    if chosen.name not in ("", description["network"]):
        raise InputError(
            f"--network.start-from {chosen.start_from} is a checkpoint of {description['network']}: expected "
            f"{chosen.name}, or say --network.name {description['network']}"
        )
    sides = description["config"].get("input_hw")
    if not chosen.name and sides and data.crop_hw == DataConfig().crop_hw:
        augment = data.augment
        if augment.scale is None and tuple(sides) != data.crop_hw:
            # The crop shows as much of a photo as one of the usual size would.
            ratio = min(sides) / min(data.crop_hw)
            augment = dataclasses.replace(augment, scale=(round(0.75 * ratio, 3), round(1.4 * ratio, 3)))
        data = dataclasses.replace(data, crop_hw=tuple(sides), augment=augment)
    network = dataclasses.replace(chosen, name=description["network"], start_from=start)
    return dataclasses.replace(config, data=data, network=network)


def refinement_of(start: str | None, network: Network) -> str:
    """Name what a checkpoint recommends, if that has a name; else one look, as the network's kind is made for."""
    recommended = None if start is None else checkpoints.describe(start)["info"].get("refinement")
    name = RECOMMENDED if recommended is None else label(recommended)
    return plain(network) if name == RECOMMENDED else name


def start_of(config: TrainConfig, run: Path) -> str | None:
    """Return the checkpoint that a run starts from; with `--network.pretrained` it is made in the run's folder, once.

    So workers need no internet, and a run that resumes starts from the same. Raises InputError if timm's weights cannot
    be loaded.
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
