"""What several families of runs share: reservations, SUEM, and the lengths of the papers' runs in steps."""

from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.training.config import ScalingConfig

CPU = ScalingConfig(workers=1, data_actors=1)
SUEM = CopyPasteConfig(recipe="exclusive")

COCO_LVIS_SAMPLES = 30_000
"""Samples of an epoch on COCO+LVIS in the published recipes."""
SBD_SAMPLES = 8_498
"""Samples of an epoch on SBD: its training images."""


def gpus(workers: int, data_actors: int = 16) -> ScalingConfig:
    """Reserve `workers` GPUs, and the CPUs that feed them."""
    return ScalingConfig(workers=workers, gpu=True, cpus_per_worker=2.0, data_actors=data_actors)


def steps_of(epochs: float, samples: int, batch_size: int) -> int:
    """Count the steps of some epochs; a last short batch is dropped, as the published loaders do."""
    return int(epochs * (samples // batch_size))
