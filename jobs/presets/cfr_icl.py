"""CFR-ICL (Sun et al. 2023): fine-tuning SimpleClick's networks with the iterative click loss and SUEM."""

from jobs.config import NetworkChoice, TrainConfig
from jobs.presets.shared import SUEM, gpus
from pipeline.data.config import DataConfig
from pipeline.training.config import OptimizerConfig, TrainingConfig


def cfr_icl_vit_base() -> TrainConfig:
    """CFR-ICL's fine-tuning of ViT-B (paper, section 4.1): batch 140, one epoch of COCO-sized data, lr 5e-6."""
    return TrainConfig(
        data=DataConfig(reader="coco", copy_paste=SUEM),
        network=NetworkChoice(name="simpleclick_vit_base", fresh=False),
        training=TrainingConfig(steps=845, batch_size=140, optimizer=OptimizerConfig(lr=5e-6), precision="bf16"),
        scaling=gpus(4),
    )


def cfr_icl_vit_huge() -> TrainConfig:
    """CFR-ICL's fine-tuning of ViT-H (paper, section 4.1): batch 32, one epoch of COCO-sized data, lr 5e-6."""
    return TrainConfig(
        data=DataConfig(reader="coco", copy_paste=SUEM),
        network=NetworkChoice(name="simpleclick_vit_huge", fresh=False),
        training=TrainingConfig(steps=3696, batch_size=32, optimizer=OptimizerConfig(lr=5e-6), precision="bf16"),
        scaling=gpus(8),
    )


PRESETS = (cfr_icl_vit_base, cfr_icl_vit_huge)
