"""Fine-tune networks of the SAM family by clicks: only the decoder on a small machine, or all weights on GPUs."""

from collections.abc import Callable
from dataclasses import replace

from jobs.config import BeforeAfterConfig, NetworkChoice, TrainConfig
from jobs.presets.shared import gpus
from pipeline.clicks.random_clicks import RandomClicksConfig
from pipeline.data.augment import AugmentConfig
from pipeline.data.config import AUTO, DataConfig
from pipeline.training.config import IclConfig, OptimizerConfig, ScalingConfig, TrainingConfig
from pipeline.training.validation import ValidationConfig

EVERY_LOOK = IclConfig(betas=(1.0, 1.0, 1.0), first_weight=1.0)
"""Four scored outputs with equal weights: the first click, by the best of its three masks, and three corrections. They
are passes of the light decoder on one pass of the heavy encoder."""

GPUS: dict[str, tuple[int, int]] = {
    "mobile_sam": (1, 16),
    "sam_vit_base": (4, 16),
    "sam_vit_large": (8, 16),
    "sam_vit_huge": (8, 8),
    "sam2_hiera_tiny": (2, 16),
    "sam2_hiera_small": (2, 16),
    "sam2_hiera_base_plus": (4, 16),
    "sam2_hiera_large": (8, 8),
}
"""Workers and batch size of the runs that train all weights."""


def finetune_sam() -> TrainConfig:
    """Fine-tune the decoder of lite_s, or of a SAM network given as --network.start-from: one to two hours on a CPU."""
    return TrainConfig(
        data=DataConfig(
            reader="coco",
            # The network resizes crops to its frame, so that a photo fills the frame as it does in use.
            crop_hw=(640, 640),
            augment=AugmentConfig(scale=(1.0, 1.25), fit=True),
            window_size=32,
            min_object_area=AUTO,
            clicks=RandomClicksConfig(law="first", max_clicks=8),
        ),
        network=NetworkChoice(name="", fresh=False),
        training=TrainingConfig(
            objective="icl",
            icl=EVERY_LOOK,
            # Many masks are polygons; in a trial, scoring their borders made later clicks worse (RESULTS.md).
            ignore_border=0.006,
            freeze_encoder=True,
            steps=300,
            batch_size=8,
            accumulate=4,
            checkpoint_every=25,
            optimizer=OptimizerConfig(lr=3e-5, warmup_steps=20, schedule="cosine", max_grad_norm=5.0),
        ),
        scaling=ScalingConfig(workers=1, data_actors=1),
        validation=ValidationConfig(hold_out=0.1),
        before_after=BeforeAfterConfig(objects=64, min_area=AUTO),
    )


def _everything(name: str) -> Callable[[], TrainConfig]:
    workers, batch_size = GPUS[name]

    def preset() -> TrainConfig:
        config = finetune_sam()
        optimizer = OptimizerConfig(
            name="adamw", lr=5e-5, weight_decay=0.1, layer_decay=0.8, warmup_steps=250, schedule="cosine",
            max_grad_norm=1.0,
        )  # fmt: skip
        training = replace(
            config.training, freeze_encoder=False, steps=10_000, batch_size=batch_size, accumulate=1,
            checkpoint_every=500, precision="bf16", recompute=name != "mobile_sam", optimizer=optimizer,
        )  # fmt: skip
        network = NetworkChoice(name=name, fresh=False)
        return replace(config, network=network, training=training, scaling=gpus(workers), refine="sam")

    preset.__name__ = f"finetune_{name}"
    preset.__doc__ = f"Fine-tune all of {name} with layer-wise rates, from --network.start-from: {workers} GPUs, bf16."
    return preset


PRESETS = (finetune_sam, *(_everything(name) for name in GPUS))
