"""Train the settings of a sweep over training settings, before they are evaluated."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jobs.cli import as_dict, from_dict
from jobs.config import SweepConfig, TrainConfig
from jobs.presets import PRESETS
from models import checkpoint as checkpoints
from models.errors import InputError, lookup
from models.storage import Storage, joined
from models.working import working
from pipeline.training.validation import ValidationConfig
from pipeline.tuning.settings import training_of

CHECKPOINT, TRAINED = "checkpoint", "trained"


def train_config(config: SweepConfig, values: Mapping[str, Any], out: str) -> TrainConfig:
    """Return the preset's config with a setting's values, on the sweep's data without the held-out images.

    Raises InputError for a name that is not a setting of jobs.train.
    """
    preset = lookup("preset", config.train_preset, PRESETS)()
    network = checkpoints.describe(config.checkpoint)["network"]
    data = dataclasses.replace(
        preset.data,
        reader=config.reader,
        root=config.root,
        split=config.split,
        options=config.options,
        **dataclasses.asdict(config.decoding()),
    )
    preset = dataclasses.replace(
        preset,
        data=data,
        network=dataclasses.replace(preset.network, name=network, start_from=config.checkpoint, fresh=False),
        # Validation plays almost nothing, because the sweep evaluates on the held-out images.
        validation=ValidationConfig(hold_out=config.hold_out, objects=1, max_clicks=1),
        before_after=dataclasses.replace(preset.before_after, objects=0),
        register=None,
        experiment=config.experiment,
        out=out,
    )
    plain = as_dict(preset)
    for name, value in training_of(values).items():
        place: Any = plain
        *path, last = name.split(".")
        for part in path:
            place = place.get(part) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            raise InputError(f"--set {name}: jobs.train has no such setting (python -m jobs.train PRESET --help)")
        place[last] = list(value) if isinstance(value, tuple) else value
    return from_dict(TrainConfig, plain)


def train_setting(config: SweepConfig, out: str, uri: str, name: str, values: Mapping[str, Any]) -> str:
    """Train a setting, unless that is done, and return its checkpoint; the default setting needs no training."""
    from jobs.train import check, train

    if not training_of(values):
        return config.checkpoint
    folder = joined(out, f"{TRAINED}/{name}")
    trained = joined(folder, CHECKPOINT)
    if not Storage(trained).exists(checkpoints.DESCRIPTION):
        with working(folder) as path:
            train(check(train_config(config, values, folder)), path, uri, name=config.train_preset)
    return trained
