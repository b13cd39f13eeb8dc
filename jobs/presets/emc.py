"""EMC-Click (Du et al. 2023): base and correction from ImageNet weights, and our variant on plain ViTs.

See docs/PAPERS.md, EMC-Click: training, and docs/PAPERS.md, EMC-Click: on a plain ViT. The published COCO+LVIS runs
also take a fifth of their targets from stuff; these do not. There is no public configuration for SBD: those presets
apply the COCO+LVIS recipe to SBD's data.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jobs.config import NetworkChoice, TrainConfig
from jobs.presets.ritm import BACKBONE, CROP
from jobs.presets.shared import COCO_LVIS, COCO_LVIS_SAMPLES, SBD, SBD_SAMPLES, epochs, first_clicks, gpus

BATCH = 64
TARGETS: dict[str, Any] = {"min_piece_area": 900, "max_object_share": 0.85}
RATES = {"hrnet18s": 1e-3, "hrnet18": 1e-3, "hrnet32": 8e-4, "segformer_b0": 1e-3, "segformer_b3": 2e-3}
VIT_EPOCHS, VIT_DROPS = 20, (16, 18)
"""Schedule of the corrections on a plain ViT (ours)."""


def _run(base: str, on_sbd: bool) -> TrainConfig:
    samples = SBD_SAMPLES if on_sbd else COCO_LVIS_SAMPLES
    training = epochs(230, samples, BATCH, RATES[base], (200, 220), objective="emc", backbone_factor=BACKBONE)
    return TrainConfig(
        data=replace(first_clicks(SBD if on_sbd else COCO_LVIS), crop_hw=CROP, **({} if on_sbd else TARGETS)),
        network=NetworkChoice(name=f"emc_{base}", fresh=False),
        # SegFormer has no auxiliary head: its auxiliary output is the main one.
        training=replace(training, aux_weight=0.4 if base.startswith("hrnet") else 0.0),
        scaling=gpus(4),
    )


def _preset(base: str, on_sbd: bool) -> Callable[[], TrainConfig]:
    def preset() -> TrainConfig:
        return _run(base, on_sbd)

    preset.__name__ = f"emc_{base}_{'sbd' if on_sbd else 'cocolvis'}"
    preset.__doc__ = f"EMC-Click, {base}, {'SBD' if on_sbd else 'COCO+LVIS'}: batch {BATCH}, 230 epochs."
    return preset


def _on_vit(size: str, workers: int) -> TrainConfig:
    training = epochs(VIT_EPOCHS, COCO_LVIS_SAMPLES, BATCH, 1e-3, VIT_DROPS, objective="correction_only")
    return TrainConfig(
        data=first_clicks(COCO_LVIS),
        network=NetworkChoice(name=f"emc_vit_{size}", fresh=False),
        training=replace(training, precision="bf16"),
        scaling=gpus(workers),
    )


def emc_vit_base_cocolvis() -> TrainConfig:
    """EMC-Click's correction on a frozen, fine-tuned ViT-B (ours), from import_checkpoint --as base: COCO+LVIS."""
    return _on_vit("base", 4)


def emc_vit_huge_cocolvis() -> TrainConfig:
    """EMC-Click's correction on a frozen, fine-tuned ViT-H (ours), from import_checkpoint --as base: COCO+LVIS."""
    return _on_vit("huge", 8)


PRESETS = (
    *(_preset(base, False) for base in RATES),
    _preset("hrnet18s", True),
    _preset("hrnet18", True),
    emc_vit_base_cocolvis,
    emc_vit_huge_cocolvis,
)
