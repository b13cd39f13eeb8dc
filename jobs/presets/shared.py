"""Settings that several families of presets share: resources, SUEM, the papers' data sets, and lengths of runs."""

from dataclasses import replace
from typing import Any

from pipeline.clicks.random_clicks import RandomClicksConfig
from pipeline.data.augment import AugmentConfig
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.training.config import OptimizerConfig, ScalingConfig, TrainingConfig

CPU = ScalingConfig(workers=1, data_actors=1)
SUEM = CopyPasteConfig(recipe="exclusive")

COCO_LVIS_SAMPLES = 30_000
"""Samples of an epoch on COCO+LVIS in the published recipes."""
SBD_SAMPLES = 8_498
"""Samples of an epoch on SBD, one per training image."""

COCO_LVIS = DataConfig(reader="coco_lvis", min_object_area=1000, keep_background_prob=0.05)
SBD = DataConfig(
    reader="sbd", split="train", min_object_area=80, keep_background_prob=0.01, augment=AugmentConfig(recipe="sbd")
)
"""The published SBD runs draw hard images more often, by scores that are not public; these presets draw uniformly."""


def gpus(workers: int, data_actors: int = 16) -> ScalingConfig:
    """Return a scaling with `workers` GPUs and the CPUs that prepare their data."""
    return ScalingConfig(workers=workers, gpu=True, cpus_per_worker=2.0, data_actors=data_actors)


def steps_of(epochs: float, samples: int, batch_size: int) -> int:
    """Return the number of steps of some epochs; the last, short batch is dropped, as in the published loaders."""
    return int(epochs * (samples // batch_size))


def epochs(
    num: int, samples: int, batch_size: int, lr: float, drops: tuple[int, ...] = (), *, objective: str, **optimizer: Any
) -> TrainingConfig:
    """Return a training of `num` epochs; the rate is divided by 10 after each epoch of `drops`.

    Checkpoints are written about once an epoch.
    """
    steps = steps_of(num, samples, batch_size)
    schedule: dict[str, Any] = {}
    if drops:
        schedule = {"schedule": "milestones", "milestones": tuple(drop / num for drop in drops)}
    return TrainingConfig(
        objective=objective,
        steps=steps,
        batch_size=batch_size,
        optimizer=OptimizerConfig(lr=lr, **{**schedule, **optimizer}),
        checkpoint_every=min(steps, max(200, steps // num)),
    )


def first_clicks(data: DataConfig) -> DataConfig:
    """Return the data with first clicks only, as EMC-Click's corrections need, and no empty samples."""
    return replace(data, clicks=RandomClicksConfig(law="first"), keep_background_prob=0.0)
