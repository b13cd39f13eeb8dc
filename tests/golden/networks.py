"""Networks of a few thousand weights that have learned to follow clicks on generated scenes: half a minute each."""

from typing import Any

import torch

from models.networks import create
from models.networks.base import Network
from pipeline.data import local
from pipeline.data.augment import AugmentConfig
from pipeline.data.config import DataConfig
from pipeline.data.copy_paste import CopyPasteConfig
from pipeline.data.exemplar_columns import ExemplarColumnsConfig
from pipeline.data.position import StreamPosition, rebatch
from pipeline.data.readers import open_reader
from pipeline.data.rows import collate
from pipeline.training.batch import to_device
from pipeline.training.config import OptimizerConfig, TrainingConfig
from pipeline.training.loop import Trainer, fit

TINY: dict[str, Any] = {
    "dim": 8, "depth": 4, "heads": 2, "neck_dims": (4, 4, 4, 4), "head_dim": 8, "input_hw": (64, 64),
}  # fmt: skip
SCENES = {"height": "80", "width": "112", "num_objects": "2,3"}


def clicked(name: str = "simpleclick_vit_xtiny", steps: int = 300, **options: Any) -> Network:
    """Train by the iterative click loss."""
    return _trained(create_seeded(name, **options), "icl_code", steps)


def recalled(steps: int = 300) -> Network:
    """Train a network that takes an exemplar."""
    network = create_seeded("icmformerpp_vit_base", exemplar_module=False, cross_depth=1)
    return _trained(network, "exemplar", steps)


def create_seeded(name: str, **options: Any) -> Network:
    """Build a tiny network with fresh weights."""
    torch.manual_seed(0)
    return create(name, **{**TINY, **options})


def _trained(network: Network, objective: str, steps: int) -> Network:
    torch.set_num_threads(1)
    reader = open_reader("scenes", options={"num_images": "32", **SCENES})
    data = DataConfig(
        crop_hw=(64, 64),
        window_size=8,
        min_object_area=60,
        augment=AugmentConfig(scale=(0.8, 1.1)),
        copy_paste=CopyPasteConfig(recipe="none"),
        exemplar=ExemplarColumnsConfig(enabled=objective == "exemplar"),
    )
    config = TrainingConfig(
        objective=objective,
        steps=steps,
        batch_size=8,
        checkpoint_every=steps,
        pictures_every=0,
        optimizer=OptimizerConfig(lr=3e-3, warmup_steps=20, max_grad_norm=5.0),
    )
    blocks = (collate([row]) for row in local.stream(reader, data))
    stream = (to_device(batch, "cpu") for batch in rebatch(blocks, StreamPosition(), config.batch_size))
    fit(Trainer(network=network, module=network, config=config), stream, lambda step, _: None, lambda step, _: None)
    return network.eval()
