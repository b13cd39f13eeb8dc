"""Objectives of a sweep: a name, and a loss per object (lower is better). Each measure of objects is an objective."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.errors import InputError, lookup
from pipeline import metrics
from pipeline.evaluation.measures import MEASURES, Measure, of_objects
from pipeline.evaluation.object_row import ObjectRow

Loss = Callable[[ObjectRow, int, float], float]
SPC = "spc"
"""Name of the price, seconds per click, which is not stored in rows."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """An objective named `label`: the mean of `loss(row, max_clicks, seconds per click)` over objects.

    The loss has the opposite sign if higher is better.
    """

    label: str
    loss: Loss
    quality: float | None = None
    """IoU at which clicking stops; None: the protocol's target."""
    costly: bool = False
    high_is_good: bool = False


def objective(name: str) -> Objective:
    """Find an objective by name: spc, nocNN (clicks to IoU .NN), or another measure of objects.

    The name of a measure at a quality ends in two digits; a measure of masks is taken after the last click. An object
    without a value counts as 0 if higher is better. Raises InputError for unknown names; `loss` raises it for an object
    without a value if lower is better.
    """
    price = MEASURES["seconds_per_click"]
    measures = {measure.name: measure for measure in of_objects()}
    match = re.fullmatch(r"(.+)([1-9]\d)", name)
    if match and match[1] in measures and measures[match[1]].grid == "qualities":
        measure, quality = measures[match[1]], int(match[2]) / 100
        return _of(measure, quality, label=measure.title(quality), quality=quality)
    whole = {name: measure for name, measure in measures.items() if measure.grid != "qualities"}
    measure = lookup("objective (or noc85, noc90, ...)", name, {**whole, SPC: price})
    if measure is price:
        return Objective(label=price.label, loss=lambda row, most, seconds: seconds)
    return _of(measure, None, label=measure.label)


def _of(measure: Measure, at: float | None, **more: Any) -> Objective:
    sign = -1 if measure.better == "higher" else 1

    def loss(row: ObjectRow, most: int, seconds: float) -> float:
        value = measure.of(row, most if at is None else at, most)
        if value is None and sign > 0:  # 0 would be the best possible value
            raise InputError(
                f"objective {measure.name}: {row.object} has no value, and lower is better: set the measure's "
                "`undefined` in MEASURES"
            )
        return sign * float(value or 0.0)

    return Objective(loss=loss, costly=measure.costly, high_is_good=measure.better == "higher", **more)


def mean_iou(row: ObjectRow, max_clicks: int) -> float:
    """Return the mean IoU over `max_clicks` clicks, where a shorter session keeps its last IoU."""
    return float(np.mean(metrics.padded(row.ious, max_clicks)))


def race_losses(
    objective: Objective, rows: Sequence[ObjectRow], max_clicks: int, seconds: Sequence[float]
) -> list[float]:
    """Return the losses for the race: the objective's loss, plus less than one click for the IoUs on the way.

    With a weak network many objects take the maximum of clicks under every setting; their IoUs still distinguish the
    settings.
    """
    return [
        objective.loss(row, max_clicks, spent) + (1 - mean_iou(row, max_clicks)) * (objective.label != "s/click")
        for row, spent in zip(rows, seconds, strict=True)
    ]


def score(objective: Objective, rows: Sequence[ObjectRow], max_clicks: int, seconds: Sequence[float]) -> float:
    """Return the mean loss over objects: the objective's value, negated if higher is better."""
    return float(np.mean([objective.loss(row, max_clicks, spent) for row, spent in zip(rows, seconds, strict=True)]))
