"""What a sweep looks for: a loss of each object, low is good, and its name. A line in OBJECTIVES adds one."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.errors import lookup
from pipeline import metrics
from pipeline.evaluation.results import ObjectRow

Loss = Callable[[ObjectRow, int, float], float]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """`loss(row, max_clicks, seconds per click)` of an object; its mean over objects is `label`, but for the sign."""

    label: str
    loss: Loss
    quality: float | None = None
    """IoU at which clicking stops; None: clicks go on to the protocol's target."""
    borders: bool = False
    high_is_good: bool = False


def _clicks(quality: float) -> Loss:
    return lambda row, most, seconds: float(metrics.clicks_to(row.ious, quality, most))


def _borders(row: ObjectRow, most: int, seconds: float) -> float:
    known = [value for value in row.bious if value is not None]
    return -(known[-1] if known else 0.0)


OBJECTIVES: dict[str, Objective] = {
    "biou": Objective(label="BIoU", loss=_borders, borders=True, high_is_good=True),
    "spc": Objective(label="s/click", loss=lambda row, most, seconds: seconds),
}


def objective(name: str) -> Objective:
    """Find an objective: one of OBJECTIVES, or nocNN, the clicks to IoU .NN; InputError for another."""
    match = re.fullmatch(r"noc([1-9]\d)", name)
    if match is None:
        return lookup("objective (or noc85, noc90, ...)", name, OBJECTIVES)
    quality = int(match[1]) / 100
    return Objective(label=f"NoC@{match[1]}", loss=_clicks(quality), quality=quality)


def mean_iou(row: ObjectRow, max_clicks: int) -> float:
    """Mean IoU over the clicks of a session that goes on without change once it has ended."""
    ious = [*row.ious, *[row.ious[-1]] * (max_clicks - len(row.ious))][:max_clicks]
    return float(np.mean(ious))


def race_losses(
    objective: Objective, rows: Sequence[ObjectRow], max_clicks: int, seconds: Sequence[float]
) -> list[float]:
    """Losses that settings race by: the objective's, and less than one click for IoUs on the way.

    Many objects take a weak network the maximum of clicks under every setting: their IoUs still tell settings apart.
    """
    return [
        objective.loss(row, max_clicks, spent) + (1 - mean_iou(row, max_clicks)) * (objective.label != "s/click")
        for row, spent in zip(rows, seconds, strict=True)
    ]


def score(objective: Objective, rows: Sequence[ObjectRow], max_clicks: int, seconds: Sequence[float]) -> float:
    """Mean loss over objects: the objective's value, negative where high is good."""
    return float(np.mean([objective.loss(row, max_clicks, spent) for row, spent in zip(rows, seconds, strict=True)]))
