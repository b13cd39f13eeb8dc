"""RITM (Sofiiuk et al. 2021): HRNet with OCR, from ImageNet weights (docs/PAPERS.md, RITM: recipes)."""

from dataclasses import replace

from jobs.config import NetworkChoice, TrainConfig
from jobs.presets.shared import COCO_LVIS, COCO_LVIS_SAMPLES, SBD, SBD_SAMPLES, epochs, gpus

CROP = (320, 480)
BACKBONE = 0.1
"""Factor of the learning rate for HRNet's pre-trained weights."""


def _cocolvis(name: str, batch_size: int) -> TrainConfig:
    drops = (200, 220)
    return TrainConfig(
        data=replace(COCO_LVIS, crop_hw=CROP),
        network=NetworkChoice(name=name, fresh=False),
        training=epochs(230, COCO_LVIS_SAMPLES, batch_size, 5e-4, drops, objective="ritm", backbone_factor=BACKBONE),
        scaling=gpus(2),
    )


def ritm_hrnet18s_cocolvis() -> TrainConfig:
    """RITM, HRNet-18s, COCO+LVIS: batch 32, 230 epochs."""
    return _cocolvis("ritm_hrnet18s", 32)


def ritm_hrnet18_cocolvis() -> TrainConfig:
    """RITM, HRNet-18, COCO+LVIS: batch 28, 230 epochs."""
    return _cocolvis("ritm_hrnet18", 28)


def ritm_hrnet32_cocolvis() -> TrainConfig:
    """RITM, HRNet-32, COCO+LVIS: batch 32, 230 epochs."""
    return _cocolvis("ritm_hrnet32", 32)


def ritm_hrnet18_sbd() -> TrainConfig:
    """RITM, HRNet-18, SBD: batch 28, 220 epochs."""
    return TrainConfig(
        data=replace(SBD, crop_hw=CROP),
        network=NetworkChoice(name="ritm_hrnet18", fresh=False),
        training=epochs(220, SBD_SAMPLES, 28, 5e-4, (200, 215), objective="ritm", backbone_factor=BACKBONE),
        scaling=gpus(2),
    )


PRESETS = (ritm_hrnet18s_cocolvis, ritm_hrnet18_cocolvis, ritm_hrnet32_cocolvis, ritm_hrnet18_sbd)
