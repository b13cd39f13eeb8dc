"""What several families of runs share: reservations, SUEM, the papers' data, and the lengths of their runs in steps."""

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
"""Samples of an epoch on SBD: its training images."""

COCO_LVIS = DataConfig(reader="coco_lvis", min_object_area=1000, keep_background_prob=0.05)
SBD = DataConfig(
    reader="sbd", split="train", min_object_area=80, keep_background_prob=0.01, augment=AugmentConfig(recipe="sbd")
)
"""Published SBD runs draw hard images more often, from a list of scores that is not public; ours draw all equally."""


def gpus(workers: int, data_actors: int = 16) -> ScalingConfig:
    """Reserve `workers` GPUs, and the CPUs that feed them."""
    return ScalingConfig(workers=workers, gpu=True, cpus_per_worker=2.0, data_actors=data_actors)


def steps_of(epochs: float, samples: int, batch_size: int) -> int:
    """Count the steps of some epochs; a last short batch is dropped, as the published loaders do."""
    return int(epochs * (samples // batch_size))


def epochs(
    num: int, samples: int, batch_size: int, lr: float, drops: tuple[int, ...] = (), *, objective: str, **optimizer: Any
) -> TrainingConfig:
    """Train for some epochs; the rate is divided by 10 after each of `drops`; a checkpoint about every epoch."""
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
    """Let the stream place first clicks alone, as EMC-Click's corrections want; no sample is empty."""
    return replace(data, clicks=RandomClicksConfig(law="first"), keep_background_prob=0.0)
