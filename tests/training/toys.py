"""Every kind of network at 64 pixels, small enough for quick steps, and batches for them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from models.networks import create
from models.networks.base import Network
from pipeline.data.config import DataConfig
from pipeline.data.local import stream
from pipeline.data.readers import open_reader
from pipeline.data.rows import collate
from pipeline.training.batch import TrainingBatch, to_device
from tests.models.tiny import (
    TINY,
    TINY_FOCUSCUT,
    TINY_HRNET,
    TINY_LITE,
    TINY_MOBILE_SAM,
    TINY_SAM,
    TINY_SAM2,
    TINY_SEGFORMER,
)

HW = (64, 64)
_VIT = {**TINY, "depth": 8, "patch": 16, "input_hw": HW}
_SWIN = {"dim": 8, "depths": (2, 2, 2, 2), "heads": (1, 2, 2, 4), "window": 6, "cross_depth": 2, "cross_heads": 2}
OPTIONS: dict[str, dict[str, Any]] = {
    "ritm_hrnet": TINY_HRNET,
    "simpleclick_vit": _VIT,
    "emc_hrnet": {**TINY_HRNET, "correction_width": 8},
    "emc_segformer": {**TINY_SEGFORMER, "correction_width": 8},
    "emc_vit": {**_VIT, "correction_width": 8},
    "focuscut": TINY_FOCUSCUT,
    "icmformer_vit": _VIT,
    "icmformer_swin": {**_SWIN, "head_dim": 16},
    "icmformerpp": _VIT,
    "sam_vit": {**TINY_SAM, "side": 64},
    "mobile_sam": {**TINY_MOBILE_SAM, "side": 64},
    "sam2_hiera": {**TINY_SAM2, "side": 128},
    "lite": {**TINY_LITE, "side": 64},
}
"""Sizes by the beginning of a network's name: no name begins with two of them."""


def toy(name: str, seed: int = 0, **more: Any) -> Network:
    """Make a network of this name as small as its kind allows, with fresh weights by seed."""
    torch.manual_seed(seed)
    (options,) = (options for start, options in OPTIONS.items() if name.startswith(start))
    return create(name, **{**options, **more})


TOYS: dict[str, Callable[[], Network]] = {
    "ritm": lambda: toy("ritm_hrnet18s"),
    "simpleclick": lambda: toy("simpleclick_vit_base"),
    "emc hrnet": lambda: toy("emc_hrnet18s"),
    "emc segformer": lambda: toy("emc_segformer_b0"),
    "emc vit": lambda: toy("emc_vit_base"),
    "focuscut": lambda: toy("focuscut_resnet50"),
    "focuscut apart": lambda: toy("focuscut_resnet50", shared_weights=False),
    "icmformer": lambda: toy("icmformer_vit_base"),
    "icmformer swin": lambda: toy("icmformer_swin_base"),
    "icmformerpp": lambda: toy("icmformerpp_vit_base"),
    "sam": lambda: toy("sam_vit_base"),
    "mobile_sam": lambda: toy("mobile_sam"),
    "sam2": lambda: toy("sam2_hiera_tiny"),
    "lite": lambda: toy("lite_s"),
}


def toy_data(data: DataConfig) -> DataConfig:
    """Return a stream's config for generated scenes at 64 pixels; every sample shows an object."""
    return replace(
        data,
        reader="scenes",
        split="",
        options={"num_images": "6"},
        crop_hw=HW,
        window_size=3,
        targets_per_view=min(3, data.targets_per_view),
        min_object_area=30,
        keep_background_prob=0.0,
        augment=replace(data.augment, scale=(0.3, 0.5)),
        focus=replace(data.focus, size=64, coarse_size=64),
    )


def scene_batches(data: DataConfig, num: int, size: int = 2) -> list[TrainingBatch]:
    """Make batches as the stream does."""
    rows = stream(open_reader("scenes", None, "", data.options), data)
    return [to_device(collate([next(rows) for _ in range(size)]), "cpu") for _ in range(num)]
