"""Train lite_s, the model that comes with Maskwright, from MobileSAM's weights: decoder and end of the encoder."""

from dataclasses import replace

from jobs.config import NetworkChoice, TrainConfig
from jobs.presets.shared import CPU
from pipeline.clicks.random_clicks import RandomClicksConfig
from pipeline.data.augment import AugmentConfig
from pipeline.data.config import DataConfig
from pipeline.training.config import IclConfig, OptimizerConfig, ScalingConfig, TrainingConfig
from pipeline.training.validation import ValidationConfig


def lite_s() -> TrainConfig:
    """Train lite_s as it comes with Maskwright, from --network.start-from: one to two hours on 2 cores."""
    return TrainConfig(
        data=DataConfig(
            reader="several",
            # Masks of polygons (coco) and superpixels (ccp); those of ecssd are exact to the pixel.
            coarse=("coco", "ccp"),
            # From whole photos to close-ups, which zoom-in shows.
            crop_hw=(480, 640),
            augment=AugmentConfig(recipe="plain", scale=(0.7, 2.2), fit=True),
            window_size=32,
            targets_per_view=4,
            min_object_area=600,
            max_object_share=0.9,
            keep_background_prob=0.0,
            clicks=RandomClicksConfig(law="first", max_clicks=16),
        ),
        network=NetworkChoice(name="lite_s", fresh=False),
        training=TrainingConfig(
            objective="icl",
            icl=IclConfig(betas=(1.0, 1.0), first_weight=1.0, more_clicks=7, forget_prob=0.2),
            ignore_border=0.006,
            # The start is best at the first click, so the result is averaged with it (jobs.average; docs/MODEL.md).
            freeze_layers=4,
            steps=600,
            batch_size=16,
            accumulate=4,
            checkpoint_every=25,
            precision="bf16",
            ema=0.99,
            optimizer=OptimizerConfig(
                lr=5e-5, fresh_factor=10.0, warmup_steps=20, schedule="cosine", max_grad_norm=5.0
            ),
        ),
        scaling=ScalingConfig(workers=1, data_actors=1),
        refine="sam",
        validation=ValidationConfig(hold_out=0.0),
    )


def demo_scenes() -> TrainConfig:
    """Fine-tune lite_s on generated scenes, as `make demo` does: two minutes on 2 cores."""
    config = lite_s()
    return replace(
        config,
        data=replace(
            config.data,
            reader="scenes",
            options={"num_images": "256", "height": "384", "width": "512"},
            coarse=(),
            crop_hw=(384, 512),
            augment=AugmentConfig(recipe="plain", scale=(0.8, 1.2), fit=True),
            min_object_area=300,
        ),
        network=NetworkChoice(name="", fresh=False),
        refine="",  # what the start recommends
        training=replace(
            config.training,
            icl=IclConfig(betas=(1.0, 1.0), first_weight=1.0),
            ignore_border=0.0,
            freeze_encoder=True,
            freeze_layers=0,
            steps=60,
            batch_size=8,
            accumulate=2,
            checkpoint_every=10,
            log_every=5,
            precision="fp32",
            ema=0.9,
            optimizer=OptimizerConfig(lr=3e-4, warmup_steps=5, schedule="cosine", max_grad_norm=5.0),
        ),
        scaling=CPU,
    )


PRESETS = (lite_s, demo_scenes)
