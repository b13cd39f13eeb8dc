"""Small training runs for the CPU of a laptop."""

from jobs.config import NetworkChoice, TrainConfig
from jobs.presets.shared import CPU, SUEM
from pipeline.data.augment import AugmentConfig
from pipeline.data.config import AUTO, DataConfig
from pipeline.training.config import OptimizerConfig, TrainingConfig

# From fresh weights, the output of the first clicks must be scored as well, which the loss of the public code does. The
# paper's loss, made for fine-tuning, never scores an output without a previous mask.
FROM_NOTHING = "icl_code"


def demo() -> TrainConfig:
    """Train ViT-xTiny from fresh weights on generated scenes, at 224 pixels: four minutes on 2 cores."""
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
    """Train ViT-xTiny from fresh weights on your images, at 224 pixels: half an hour on 2 cores."""
    return TrainConfig(
        data=DataConfig(
            reader="coco",
            crop_hw=(224, 224),
            window_size=32,
            min_object_area=AUTO,
            max_auto_area=300,
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


PRESETS = (demo, cpu_xtiny)
