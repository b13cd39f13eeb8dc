"""A training problem small enough for tests: a network of 32 x 32 pixels, batches of squares, and a run without Ray."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from models.networks import create
from models.networks.base import Network
from pipeline.data import local
from pipeline.data.config import DataConfig
from pipeline.data.position import StreamPosition, rebatch
from pipeline.data.rows import collate
from pipeline.data.sample import Reader
from pipeline.training.batch import TrainingBatch, to_device
from pipeline.training.config import TrainingConfig
from pipeline.training.loop import Trainer, fit

NAME = "simpleclick_vit_xtiny"
HW = (32, 32)
OPTIONS: dict[str, Any] = {
    "dim": 32,
    "depth": 4,
    "heads": 2,
    "neck_dims": (16, 16, 16, 16),
    "head_dim": 16,
    "input_hw": HW,
}
DATA = DataConfig(crop_hw=HW, window_size=4, min_object_area=20)


def tiny_network(seed: int = 0, **overrides: Any) -> Network:
    torch.manual_seed(seed)
    return create(NAME, **{**OPTIONS, **overrides})


def columns(batch_size: int, seed: int = 0, num_clicks: int = 8) -> dict[str, np.ndarray]:
    """Columns as in the stream: a bright square per sample with one positive click, its first row ignored."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (batch_size, *HW, 3), dtype=np.uint8)
    target = np.zeros((batch_size, *HW), np.uint8)
    yx = np.full((batch_size, 2 * num_clicks, 2), -1, np.float32)
    valid = np.zeros((batch_size, 2 * num_clicks), bool)
    for sample in range(batch_size):
        y, x = rng.integers(4, 18, 2)
        target[sample, y : y + 10, x : x + 10] = 1
        image[sample, y : y + 10, x : x + 10] += 150
        yx[sample, 0], valid[sample, 0] = (y + 5, x + 5), True
    ignore = np.zeros_like(target)
    ignore[:, 0] = 1
    return {
        "image": image,
        "object_mask": target,
        "ignore_mask": ignore,
        "clicks_yx": yx,
        "clicks_valid": valid,
    }


def batches(batch_size: int = 4, start: int = 0) -> Iterator[TrainingBatch]:
    """Endless batches; a batch's number decides its content."""
    number = start
    while True:
        yield to_device(columns(batch_size, number), "cpu")
        number += 1


def trained_without_ray(reader: Reader, data: DataConfig, config: TrainingConfig) -> Network:
    """Train tiny_network in this process on the local stream: the reference for runs on Ray."""
    blocks = (collate([row]) for row in local.stream(reader, data))
    stream = (to_device(batch, "cpu") for batch in rebatch(blocks, StreamPosition(), config.batch_size))
    torch.set_num_threads(1)  # as in the worker: sums in another order would differ in the last bit
    network = tiny_network(config.seed)
    trainer = Trainer(network=network, module=network, config=config)
    fit(trainer, stream, lambda step, metrics: None, lambda step, metrics: None)
    return network
