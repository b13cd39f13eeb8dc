"""SimpleClick (Liu et al. 2023): plain ViTs at 448 pixels, from MAE weights (xTiny: from fresh ones).

See docs/PAPERS.md, SimpleClick: recipes and files.
"""

from collections.abc import Callable
from dataclasses import replace

from jobs.config import NetworkChoice, TrainConfig
from jobs.presets.shared import COCO_LVIS, COCO_LVIS_SAMPLES, SBD, SBD_SAMPLES, epochs, gpus

BATCH = 32
TITLES = {"xtiny": "ViT-xTiny", "base": "ViT-B", "large": "ViT-L", "huge": "ViT-H"}


def _run(size: str, on_sbd: bool) -> TrainConfig:
    samples = SBD_SAMPLES if on_sbd else COCO_LVIS_SAMPLES
    if size == "xtiny":
        num, lr, drops = (1001, 1e-5, (800, 900)) if on_sbd else (230, 5e-5, (200, 230))
    else:
        num, lr, drops = 55, 5e-5, (50, 55)
    training = epochs(num, samples, BATCH, lr, drops, objective="ritm")
    return TrainConfig(
        data=SBD if on_sbd else COCO_LVIS,
        network=NetworkChoice(name=f"simpleclick_vit_{size}", fresh=size == "xtiny"),
        training=replace(training, precision="bf16"),
        scaling=gpus(4),
    )


def _preset(size: str, on_sbd: bool) -> Callable[[], TrainConfig]:
    def preset() -> TrainConfig:
        return _run(size, on_sbd)

    data = "SBD" if on_sbd else "COCO+LVIS"
    preset.__name__ = f"simpleclick_vit_{size}_{'sbd' if on_sbd else 'cocolvis'}"
    preset.__doc__ = f"SimpleClick, {TITLES[size]}, {data}: batch {BATCH}, RITM's iterative clicks."
    return preset


PRESETS = tuple(_preset(size, on_sbd) for size in TITLES for on_sbd in (False, True))
