"""FocusCut (Lin et al. 2022): both views on SBD, from ImageNet weights (docs/PAPERS.md, FocusCut: training)."""

from dataclasses import replace

from jobs.config import NetworkChoice, TrainConfig
from jobs.presets.shared import SBD, SBD_SAMPLES, epochs, gpus
from pipeline.clicks.random_clicks import RandomClicksConfig
from pipeline.data.augment import AugmentConfig
from pipeline.data.focus_patches import FocusPatchConfig

EPOCHS, BATCH = 40, 8
SGD = {"name": "sgd", "weight_decay": 5e-4, "schedule": "exponential", "final_factor": 0.9**EPOCHS}


def _run(name: str) -> TrainConfig:
    training = epochs(EPOCHS, SBD_SAMPLES, BATCH, 7e-3, objective="focus", **SGD)
    return TrainConfig(
        data=replace(
            SBD,
            crop_hw=(384, 384),
            augment=AugmentConfig(recipe="focuscut"),
            clicks=RandomClicksConfig(law="walk"),
            focus=FocusPatchConfig(enabled=True),
            keep_background_prob=0.0,
        ),
        network=NetworkChoice(name=name, fresh=False),
        training=replace(training, loss="bce"),
        scaling=gpus(1),
        refine="focuscut",
    )


def focuscut_resnet50_sbd() -> TrainConfig:
    """FocusCut, ResNet-50, SBD: batch 8, 40 epochs, both views in every step."""
    return _run("focuscut_resnet50")


def focuscut_resnet101_sbd() -> TrainConfig:
    """FocusCut, ResNet-101, SBD: batch 8, 40 epochs, both views in every step."""
    return _run("focuscut_resnet101")


PRESETS = (focuscut_resnet50_sbd, focuscut_resnet101_sbd)
