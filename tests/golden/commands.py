"""The commands that made golden state and resume stopped jobs; and the contents of a prepared folder."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from models import rle
from pipeline.data.readers import open_reader

ROOT = "/golden"
"""Placeholder in paths for the folder in which the golden state was made."""
SCENES = ["num_images", "8", "height", "80", "width", "112", "num_objects", "2,3"]
COMPARE = [
    "--refine-a", "standard", "--refine-b", "cfr_2", "--policy", "oracle", "--at-clicks", "1", "3",
]  # fmt: skip


def train(start_from: Path) -> list[str]:
    """Return a training with Adam, a running average and a checkpoint half way."""
    return [
        "demo",
        *("--network.start-from", str(start_from)),
        *("--data.options", *SCENES),
        *("--data.crop-hw", "64", "64"),
        *("--data.window-size", "4"),
        *("--data.min-object-area", "60"),
        *("--training.steps", "100"),
        *("--training.batch-size", "8"),
        *("--training.checkpoint-every", "50"),
        *("--training.log-every", "10"),
        *("--training.pictures-every", "0"),
        *("--training.ema", "0.8", "--training.accumulate", "2"),
        *("--training.optimizer.warmup-steps", "2"),
        *("--scaling.threads-per-worker", "1"),
        *("--scaling.cpus-per-worker", "0.5"),
        *("--scaling.data-actors", "1"),
        *("--scaling.cpus-per-data-actor", "0.3"),
        *("--refine", "cfr_1"),
    ]


def evaluate(checkpoint: Path) -> list[str]:
    """Return an evaluation of two refinements with two robot users."""
    return [
        *("--checkpoint", str(checkpoint)),
        *("--reader", "scenes", "--options", *SCENES),
        *("--refine", "standard", "cfr_2"),
        *("--policies", "oracle", "realistic"),
        *("--protocol.max-clicks", "4"),
        *("--protocol.target-iou", "0.7"),
        *("--protocol.qualities", "0.5", "0.7"),
        *("--protocol.at-clicks", "1", "3"),
        *("--protocol.max-objects", "10"),
        *("--scaling.actors", "1"),
        *("--scaling.num-cpus", "0.5"),
        *("--num-overlays", "1"),
    ]


def sweep(checkpoint: Path) -> list[str]:
    """Return a sweep over six settings of the cascade on ten objects."""
    return [
        "cfr",
        *("--checkpoint", str(checkpoint)),
        *("--reader", "scenes", "--options", *SCENES),
        *("--set", "refine.cascade.steps", "0,1,2", "refine.cascade.adaptive", "false"),
        *("refine.cascade.on_first_clicks", "1", "refine.mask_threshold", "0.3,0.49"),
        *("--refine", "standard"),
        *("--objective", "noc40"),
        *("--protocol.max-clicks", "3"),
        *("--protocol.max-objects", "10"),
        *("--scaling.actors", "1"),
        *("--scaling.num-cpus", "0.4"),
    ]


def prepare() -> list[str]:
    """Return a preparation of eight scenes in four shards."""
    return ["--reader", "scenes", "--options", *SCENES, "--images-per-shard", "2", "--images-per-group", "2"]


def augment() -> list[str]:
    """Return an epoch of four small samples."""
    options = ["num_images", "4", *SCENES[2:]]
    return [
        *("demo", "--data.options", *options, "--data.crop-hw", "32", "32", "--data.window-size", "2"),
        *("--data.min-object-area", "20", "--windows-per-shard", "1"),
    ]


def contents(folder: Path) -> list[dict[str, Any]]:
    """Return every item of a prepared data set, with the SHA-256 of its pixels and its masks as run lengths."""
    reader = open_reader("prepared", str(folder))
    return [_content(reader.load(item)) for item in reader.items()]


def _content(sample: Any) -> dict[str, Any]:
    exemplar = sample.exemplar
    return {
        "id": sample.id,
        "size": list(sample.image.shape),
        "image": hashlib.sha256(np.ascontiguousarray(sample.image).tobytes()).hexdigest(),
        "objects": [
            {"id": ref.id, "category": ref.category, "mask": dict(rle.encode(sample.object_mask(ref)))}
            for ref in sample.objects
        ],
        "ignored": int(sample.ignore_mask.sum()),
        "licence": sample.origin.licence,
        "source": sample.origin.source,
        "exemplar": exemplar and [exemplar.object_id, [list(row) for row in exemplar.clicks.rows()]],
    }
