"""What fine-tuning has changed: both checkpoints play the same held-out objects, and a page compares them."""

import dataclasses
from pathlib import Path
from typing import Any

from jobs.compare import main as compare
from jobs.config import EvaluateConfig, TrainConfig
from jobs.evaluate import evaluate, label
from models import checkpoint as checkpoints
from pipeline.evaluation.config import EvaluationConfig, EvaluationScaling


def play(config: TrainConfig, checkpoint: Path, out: Path, title: str) -> list[dict[str, Any]]:
    """Evaluate a checkpoint on the images that the run holds out."""
    data, wanted = config.data, config.before_after
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
    """Compare the two evaluations and write OUT/compare.html, with the objects that changed most."""
    data = config.data
    arguments = [str(before), str(after), "--out", str(out), "--reader", data.reader]
    for flag, value in (("--root", data.root), ("--split", data.split)):
        arguments += [flag, value] if value else []
    if data.options:
        arguments += ["--options", *(text for pair in data.options.items() for text in pair)]
    for name, value in dataclasses.asdict(data.decoding()).items():
        arguments += [f"--{name.replace('_', '-')}", str(value)]
    compare(arguments)
    return out / "compare.html"
