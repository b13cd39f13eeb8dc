"""What a sweep looks for: a loss of each object, low is good, and its name. Each measure of objects is one."""

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
"""Name of the price, seconds a click, which no row has by itself."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """`loss(row, max_clicks, seconds per click)` of an object; its mean over objects is `label`, but for the sign."""

    label: str
    loss: Loss
    quality: float | None = None
    """IoU at which clicking stops; None: clicks go on to the protocol's target."""
    costly: bool = False
    high_is_good: bool = False


def objective(name: str) -> Objective:
    """Find an objective: spc, nocNN (clicks to IoU .NN), or another measure of objects; InputError for what is none.

    A measure with a quality wants its two digits; one of masks is taken after the last click. Without a
    value it counts as 0 where more is better, and is refused where less is.
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
        if value is None and sign > 0:  # 0 would be the best value that there is
            raise InputError(
                f"objective {measure.name}: {row.object} has no value, and less is better: say in MEASURES what counts "
                "where the measure is `undefined`"
            )
        return sign * float(value or 0.0)

    return Objective(loss=loss, costly=measure.costly, high_is_good=measure.better == "higher", **more)


def mean_iou(row: ObjectRow, max_clicks: int) -> float:
    """Mean IoU over the clicks of a session that goes on without change once it has ended."""
    return float(np.mean(metrics.padded(row.ious, max_clicks)))


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
