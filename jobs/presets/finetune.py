"""Fine-tune any checkpoint on your own images."""

from jobs.config import BeforeAfterConfig, NetworkChoice, TrainConfig
from jobs.presets.shared import SUEM
from pipeline.data.config import AUTO, DataConfig
from pipeline.training.config import OptimizerConfig, ScalingConfig, TrainingConfig
from pipeline.training.validation import ValidationConfig


def finetune() -> TrainConfig:
    """Fine-tune lite_s or --network.start-from on your images, with a tenth held out for NoC before and after."""
    return TrainConfig(
        data=DataConfig(reader="coco", copy_paste=SUEM, window_size=32, min_object_area=AUTO),
        network=NetworkChoice(name="", fresh=False),
        training=TrainingConfig(
            steps=500,
            batch_size=8,
            checkpoint_every=100,
            optimizer=OptimizerConfig(lr=2e-5, warmup_steps=20, schedule="cosine", max_grad_norm=5.0),
        ),
        scaling=ScalingConfig(workers=1, data_actors=1),
        validation=ValidationConfig(hold_out=0.1),
        before_after=BeforeAfterConfig(objects=64, min_area=AUTO),
    )


PRESETS = (finetune,)
