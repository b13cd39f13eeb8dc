"""CFR-ICL (Sun et al. 2023): fine-tuning with the iterative click loss and SUEM, from SimpleClick's weights.

`cfr_icl_vit_*` follow the paper (section 4.1: one epoch, learning rate 5e-6, batch 140 for ViT-B and 32 for ViT-H, its
form of the loss). `*_code` follow the public configurations: SUEM with three gates, and the iterative loss, in the form
of the code, for ViT-H only (docs/PAPERS.md, CFR-ICL: recipes).
"""

from dataclasses import replace

from jobs.config import NetworkChoice, TrainConfig
from jobs.presets.ritm import BACKBONE, CROP
from jobs.presets.shared import COCO_LVIS, COCO_LVIS_SAMPLES, SBD, SBD_SAMPLES, SUEM, epochs, gpus
from pipeline.clicks.random_clicks import RandomClicksConfig
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.training.config import TrainingConfig

COCO_IMAGES = 118_287
"""Samples of an epoch in the paper: the training images of COCO."""
THREE_GATES = CopyPasteConfig(recipe="three_gates")
CFR_SBD = replace(SBD, min_object_area=20)
RATE = 5e-6


def _paper(size: str, batch_size: int, data: DataConfig, samples: int, workers: int) -> TrainConfig:
    return _run(size, replace(data, copy_paste=SUEM), epochs(1, samples, batch_size, RATE, objective="icl"), workers)


def _code(size: str, data: DataConfig, training: TrainingConfig, max_clicks: int = 24) -> TrainConfig:
    clicks = RandomClicksConfig(permute_order=True, max_clicks=max_clicks)
    return _run(size, replace(data, copy_paste=THREE_GATES, fresh_partners=True, clicks=clicks), training, 4)


def _run(size: str, data: DataConfig, training: TrainingConfig, workers: int) -> TrainConfig:
    return TrainConfig(
        data=data,
        network=NetworkChoice(name=f"simpleclick_vit_{size}", fresh=False),
        training=replace(training, precision="bf16"),
        scaling=gpus(workers),
    )


def cfr_icl_vit_base() -> TrainConfig:
    """CFR-ICL, ViT-B, your images in COCO format, the paper's recipe (section 4.1): batch 140, 118,287 samples."""
    return _paper("base", 140, DataConfig(reader="coco"), COCO_IMAGES, 4)


def cfr_icl_vit_huge() -> TrainConfig:
    """CFR-ICL, ViT-H, your images in COCO format, the paper's recipe (section 4.1): batch 32, 118,287 samples."""
    return _paper("huge", 32, DataConfig(reader="coco"), COCO_IMAGES, 8)


def cfr_icl_vit_base_cocolvis() -> TrainConfig:
    """CFR-ICL, ViT-B, COCO+LVIS, the paper's recipe: batch 140, one epoch, learning rate 5e-6."""
    return _paper("base", 140, COCO_LVIS, COCO_IMAGES, 4)


def cfr_icl_vit_huge_cocolvis() -> TrainConfig:
    """CFR-ICL, ViT-H, COCO+LVIS, the paper's recipe: batch 32, one epoch, learning rate 5e-6."""
    return _paper("huge", 32, COCO_LVIS, COCO_IMAGES, 8)


def cfr_icl_vit_base_sbd() -> TrainConfig:
    """CFR-ICL, ViT-B, SBD, the paper's recipe: batch 140, one epoch, learning rate 5e-6."""
    return _paper("base", 140, CFR_SBD, SBD_SAMPLES, 4)


def cfr_icl_vit_huge_sbd() -> TrainConfig:
    """CFR-ICL, ViT-H, SBD, the paper's recipe: batch 32, one epoch, learning rate 5e-6."""
    return _paper("huge", 32, CFR_SBD, SBD_SAMPLES, 8)


def cfr_icl_vit_base_cocolvis_code() -> TrainConfig:
    """CFR-ICL, ViT-B, COCO+LVIS, the public configuration: 5 epochs with RITM's clicks, batch 32."""
    return _code("base", COCO_LVIS, epochs(5, COCO_LVIS_SAMPLES, 32, RATE, objective="ritm"))


def cfr_icl_vit_huge_cocolvis_code() -> TrainConfig:
    """CFR-ICL, ViT-H, COCO+LVIS, the public configuration: 3,000 samples with the code's iterative loss, batch 32."""
    return _code("huge", COCO_LVIS, epochs(1, 3000, 32, RATE, objective="icl_code"), max_clicks=12)


def cfr_icl_vit_base_sbd_code() -> TrainConfig:
    """CFR-ICL, ViT-B, SBD, the public configuration: 20 epochs with RITM's clicks, batch 32."""
    return _code("base", CFR_SBD, epochs(20, SBD_SAMPLES, 32, RATE, objective="ritm"))


def cfr_icl_vit_huge_sbd_code() -> TrainConfig:
    """CFR-ICL, ViT-H, SBD, the public configuration: 5 epochs with the code's iterative loss, batch 32."""
    return _code("huge", CFR_SBD, epochs(5, SBD_SAMPLES, 32, RATE, objective="icl_code"), max_clicks=12)


def cfr_icl_hrnet32_cocolvis() -> TrainConfig:
    """CFR-ICL, HRNet-32, COCO+LVIS: the paper's recipe with RITM's network and crop size, batch 32."""
    return TrainConfig(
        data=replace(COCO_LVIS, crop_hw=CROP, copy_paste=SUEM),
        network=NetworkChoice(name="ritm_hrnet32", fresh=False),
        training=epochs(1, COCO_IMAGES, 32, RATE, objective="icl", backbone_factor=BACKBONE),
        scaling=gpus(2),
    )


PRESETS = (
    cfr_icl_vit_base,
    cfr_icl_vit_huge,
    cfr_icl_vit_base_cocolvis,
    cfr_icl_vit_huge_cocolvis,
    cfr_icl_vit_base_sbd,
    cfr_icl_vit_huge_sbd,
    cfr_icl_vit_base_cocolvis_code,
    cfr_icl_vit_huge_cocolvis_code,
    cfr_icl_vit_base_sbd_code,
    cfr_icl_vit_huge_sbd_code,
    cfr_icl_hrnet32_cocolvis,
)
