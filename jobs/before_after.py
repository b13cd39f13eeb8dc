"""Measure what fine-tuning changed: evaluate both checkpoints on the same held-out objects and compare them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.compare import CompareConfig, compare_folders
from jobs.config import BeforeAfterConfig, EvaluateConfig, TrainConfig
from jobs.evaluate import evaluate, label
from models import checkpoint as checkpoints
from pipeline.data.augment import AugmentConfig
from pipeline.data.config import AUTO, DataConfig
from pipeline.data.sample import Item, Reader
from pipeline.data.targets import floor_of
from pipeline.evaluation.config import EvaluationConfig, EvaluationScaling

MOST_AREA = 300


def settle(
    wanted: BeforeAfterConfig, data: DataConfig, reader: Reader, items: Sequence[Item], settings: Any
) -> BeforeAfterConfig:
    """Resolve a minimum area of "auto": that of the run being resumed (`settings`), else from the objects' areas.

    Areas are those in the photos as they are, without augmentation.
    """
    if wanted.min_area != AUTO:
        return wanted
    known = settings.get("before_after", {}).get("min_area") if isinstance(settings, dict) else None
    if not isinstance(known, int):
        as_read = dataclasses.replace(data, augment=AugmentConfig(scale=(1.0, 1.0)), max_auto_area=MOST_AREA)
        known = floor_of(reader, items, as_read).area
    return dataclasses.replace(wanted, min_area=known)


def play(config: TrainConfig, checkpoint: str | Path, out: Path, title: str) -> list[dict[str, Any]]:
    """Evaluate a checkpoint on the images that the run holds out; return the summaries."""
    data, wanted = config.data, config.before_after
    assert isinstance(wanted.min_area, int), "min_area is not resolved"
    refine = wanted.refine or label(checkpoints.describe(checkpoint)["info"].get("refinement"))
    return evaluate(
        EvaluateConfig(
            checkpoint=str(checkpoint),
            reader=data.reader,
            root=data.root,
            split=data.split,
            options=data.options,
            **dataclasses.asdict(data.decoding()),
            hold_out=config.validation.hold_out,
            refine=(refine,),
            protocol=EvaluationConfig(
                max_clicks=wanted.max_clicks,
                qualities=(0.80, 0.85, 0.90),
                target_iou=0.90,
                max_objects=wanted.objects,
                min_area=wanted.min_area,
            ),
            scaling=EvaluationScaling(num_cpus=0.5),
        ),
        out,
        dataset="held out",
        title=title,
    )


def report(config: TrainConfig, before: Path, after: Path, out: Path) -> Path:
    """Compare two evaluations and write OUT/compare.html, which shows the objects that changed most."""
    data = config.data
    compare_folders(
        CompareConfig(
            str(before),
            str(after),
            out=str(out),
            reader=data.reader,
            root=data.root,
            split=data.split,
            options=data.options,
            **dataclasses.asdict(data.decoding()),
        )
    )
    return out / "compare.html"
