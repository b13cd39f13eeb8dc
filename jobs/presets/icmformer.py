"""iCMFormer and iCMFormer++ (Li et al. 2023, 2024), from MAE or Swin weights.

See docs/PAPERS.md, iCMFormer: training and inference, and docs/PAPERS.md, iCMFormer++: training.
"""

from collections.abc import Callable
from dataclasses import replace

from jobs.config import NetworkChoice, TrainConfig
from jobs.presets.shared import COCO_LVIS, COCO_LVIS_SAMPLES, SBD, SBD_SAMPLES, epochs, gpus
from pipeline.data.augment import AugmentConfig
from pipeline.data.config import DataConfig
from pipeline.data.exemplar_columns import ExemplarColumnsConfig

BATCH = 24
MOIS_SAMPLES = 111_362
"""Training samples of COCO-MOIS."""
CROPS = {"vit_base": (448, 448), "swin_base": (384, 384)}


def _run(network: str, on_sbd: bool) -> TrainConfig:
    data = SBD if on_sbd else COCO_LVIS
    if network.startswith("swin") and not on_sbd:
        data = replace(data, augment=AugmentConfig(scale=(0.75, 1.25)))
    samples, num, drops = (SBD_SAMPLES, 55, (50, 55)) if on_sbd else (COCO_LVIS_SAMPLES, 85, (80, 85))
    training = epochs(num, samples, BATCH, 5e-5, drops, objective="ritm")
    return TrainConfig(
        data=replace(data, crop_hw=CROPS[network]),
        network=NetworkChoice(name=f"icmformer_{network}", fresh=False),
        training=replace(training, precision="bf16"),
        scaling=gpus(2),
    )


def _preset(network: str, on_sbd: bool) -> Callable[[], TrainConfig]:
    def preset() -> TrainConfig:
        return _run(network, on_sbd)

    data = "SBD" if on_sbd else "COCO+LVIS"
    preset.__name__ = f"icmformer_{network}_{'sbd' if on_sbd else 'cocolvis'}"
    preset.__doc__ = f"iCMFormer, {network}, {data}: batch {BATCH}, RITM's iterative clicks."
    return preset


def icmformerpp_coco_mois() -> TrainConfig:
    """iCMFormer++, COCO-MOIS (made by jobs.prepare --stage mois): batch 24, 105 epochs, with exemplars."""
    training = epochs(105, MOIS_SAMPLES, BATCH, 5e-5, (50,), objective="exemplar")
    return TrainConfig(
        data=DataConfig(
            reader="prepared",
            augment=AugmentConfig(recipe="sbd"),
            exemplar=ExemplarColumnsConfig(enabled=True),
            min_object_area=80,
            keep_background_prob=0.0,
        ),
        network=NetworkChoice(name="icmformerpp_vit_base", fresh=False),
        training=replace(training, precision="bf16"),
        scaling=gpus(2),
    )


PRESETS = (*(_preset(network, on_sbd) for network in CROPS for on_sbd in (False, True)), icmformerpp_coco_mois)
