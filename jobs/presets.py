"""Named training runs: functions that return a full config. Flags override single values."""

from collections.abc import Callable

from jobs.config import NetworkChoice, TrainConfig
from pipeline.data.augment import AugmentConfig
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.training.config import OptimizerConfig, ScalingConfig, TrainingConfig

CPU = ScalingConfig(workers=1, data_actors=1)
SUEM = CopyPasteConfig(recipe="exclusive")
# From fresh weights the output of the first clicks must be scored too, as the public code's form of the loss does: the
# paper's form, made for fine-tuning, never scores an output without a previous mask.
FROM_NOTHING = "icl_code"


def demo() -> TrainConfig:
    """Four minutes on 2 cores: generated scenes, ViT-xTiny at 224 pixels; what `make demo` trains."""
    return TrainConfig(
        data=DataConfig(
            reader="scenes",
            options={"num_images": "256"},
            crop_hw=(224, 224),
            window_size=32,
            min_object_area=300,
            augment=AugmentConfig(scale=(0.7, 1.1)),
            copy_paste=SUEM,
        ),
        network=NetworkChoice(name="simpleclick_vit_xtiny"),
        training=TrainingConfig(
            objective=FROM_NOTHING,
            steps=150,
            batch_size=8,
            checkpoint_every=40,
            optimizer=OptimizerConfig(lr=5e-4, warmup_steps=10, schedule="cosine", max_grad_norm=5.0),
        ),
        scaling=CPU,
    )


def cpu_xtiny() -> TrainConfig:
    """Half an hour on 2 cores, on your own images: ViT-xTiny from fresh weights at 224 pixels."""
    return TrainConfig(
        data=DataConfig(
            reader="coco",
            crop_hw=(224, 224),
            window_size=32,
            min_object_area=300,
            augment=AugmentConfig(scale=(0.35, 0.8)),
            copy_paste=SUEM,
        ),
        network=NetworkChoice(name="simpleclick_vit_xtiny"),
        training=TrainingConfig(
            objective=FROM_NOTHING,
            steps=1200,
            batch_size=8,
            checkpoint_every=100,
            optimizer=OptimizerConfig(lr=5e-4, warmup_steps=50, schedule="cosine", max_grad_norm=5.0),
        ),
        scaling=CPU,
    )


def cfr_icl_vit_base() -> TrainConfig:
    """CFR-ICL's fine-tuning of ViT-B (paper, section 4.1): batch 140, one epoch of COCO-sized data, lr 5e-6."""
    return TrainConfig(
        data=DataConfig(reader="coco", copy_paste=SUEM),
        network=NetworkChoice(name="simpleclick_vit_base", fresh=False),
        training=TrainingConfig(steps=845, batch_size=140, optimizer=OptimizerConfig(lr=5e-6), precision="bf16"),
        scaling=ScalingConfig(workers=4, gpu=True, cpus_per_worker=2.0, data_actors=16),
    )


def cfr_icl_vit_huge() -> TrainConfig:
    """CFR-ICL's fine-tuning of ViT-H (paper, section 4.1): batch 32, one epoch of COCO-sized data, lr 5e-6."""
    return TrainConfig(
        data=DataConfig(reader="coco", copy_paste=SUEM),
        network=NetworkChoice(name="simpleclick_vit_huge", fresh=False),
        training=TrainingConfig(steps=3696, batch_size=32, optimizer=OptimizerConfig(lr=5e-6), precision="bf16"),
        scaling=ScalingConfig(workers=8, gpu=True, cpus_per_worker=2.0, data_actors=16),
    )


PRESETS: dict[str, Callable[[], TrainConfig]] = {
    preset.__name__: preset for preset in (demo, cpu_xtiny, cfr_icl_vit_base, cfr_icl_vit_huge)
}
