"""Clicks that depend on predictions, in the training loop: where they may land, and which row they take.

docs/PAPERS.md, RITM: training.
Rows: the first half of a sample's 2K rows holds positive clicks, the second half negative ones.

Depths come from one of two transforms. On a CPU it is OpenCV's with the 5x5 kernel, as in the public code; on a device
the exact one (device_distance.py), which never leaves it. All that follows is the same code. The two transforms differ:
the 5x5 one is up to 2 % off, so that pixels near half of the deepest are in the one set and not in the other (of 150
masks of 224 pixels in 76 %, and there 3 % of the pixels that either allows), and of two errors of nearly the same depth
another one may be the deeper (3 %).
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor

from models.click_maps import ClickBatch
from models.errors import InputError, lookup
from pipeline.clicks.border_mix import BORDER_PROB, NEAR
from pipeline.clicks.device_distance import label_distances

THRESHOLD = 0.49


@dataclass(frozen=True, kw_only=True)
class TrainingClick:
    """A rule for the next click of a training step.

    `sign`: that of the deeper error, or drawn with odds of the depths. `area`: more than half as deep as the deepest;
    its very deepest pixels; or half the time these, half the time pixels near the border. `row`: the first free one of
    the sign's half, or its last if all are used; the `number`-th from its end; or the last free one, none if all are
    used.
    """

    sign: Literal["deeper", "drawn"] = "deeper"
    area: Literal["deep", "centre", "border_mix"] = "deep"
    row: Literal["free", "numbered", "from_end"] = "free"


TRAINING_CLICKS: dict[str, TrainingClick] = {
    "ritm": TrainingClick(row="numbered"),
    "cfr": TrainingClick(),
    "emc": TrainingClick(sign="drawn", row="from_end"),
    "centre": TrainingClick(area="centre"),
    "border_mix": TrainingClick(area="border_mix"),
}
"""RITM's and SimpleClick's, CFR-ICL's, EMC-Click's, FocusCut's robot, iCMFormer++'s mixture.

The last two look at all errors of a sign, where the robots of evaluation look at the largest connected one.
"""


def error_labels(mask_prob: Tensor, target: Tensor) -> Tensor:
    """Label errors, int8: 1 missed object, 2 false alarm, 0 right; a probability of exactly .49 is neither.

    `target` 1 object, 0 background, -1 ignored: ignored pixels count as background, as published.
    """
    missed = (target > 0.5) & (mask_prob < THRESHOLD)
    false_alarm = (target <= 0.5) & (mask_prob > THRESHOLD)
    return missed.to(torch.int8) + 2 * false_alarm.to(torch.int8)


def next_clicks(
    clicks: ClickBatch,
    mask_prob: Tensor,
    target: Tensor,
    rng: np.random.Generator,
    *,
    law: str = "cfr",
    number: int | None = None,
    exact: bool | None = None,
) -> ClickBatch:
    """Add one click per sample by a law of TRAINING_CLICKS; a sample without a pixel that it allows keeps its clicks.

    `mask_prob` and `target` (b, 1, h, w). `number` counts the clicks made so far in the step, from 1 (law ritm).
    `exact` None: the exact transform, unless the masks are on a CPU. Two numbers a sample come from `rng`, whatever
    happens: nothing is asked of the device.
    """
    rule = lookup("training click", law, TRAINING_CLICKS)
    mask_prob, target = mask_prob.detach()[:, 0].float(), target[:, 0]
    labels = error_labels(mask_prob, target)
    exact = labels.device.type != "cpu" if exact is None else exact
    depths = label_distances(labels).float().sqrt() * (labels > 0) if exact else depths_5x5(labels)
    draws = torch.from_numpy(rng.random((2, len(labels))))
    if labels.is_cuda:
        # From pageable memory the copy would wait for the device.
        draws = draws.pin_memory().to(labels.device, non_blocking=True)
    allowed, positive = allowed_pixels(labels, depths, rule, draws[1])
    # The pixel of a random rank among those that are allowed, in row-major order.
    ranks = allowed.flatten(1).cumsum(1, dtype=torch.int32)
    count = ranks[:, -1]
    # Rounding may reach the count itself, though a draw is below 1.
    rank = torch.minimum((draws[0] * count).to(torch.int32) + 1, count.clamp(min=1))
    pixel = torch.searchsorted(ranks, rank[:, None]).clamp(max=ranks.shape[1] - 1)[:, 0]
    row, free = click_row(clicks.valid, positive, rule, number)
    lands = (count > 0) & free
    width = labels.shape[2]
    place = torch.stack([pixel // width, pixel % width], 1).to(clicks.yx.dtype)
    here = lands[:, None] & (torch.arange(clicks.valid.shape[1], device=row.device) == row[:, None])
    yx = torch.where(here[..., None], place[:, None], clicks.yx)
    return ClickBatch(yx, clicks.positive, clicks.valid | here, clicks.first)


def depths_5x5(labels: Tensor) -> Tensor:
    """Distance of each error's pixels to its border by OpenCV's 5x5 kernel, on the CPU; float32 (b, h, w)."""
    depths = np.zeros(labels.shape, np.float32)
    for sample, errors in enumerate(labels.cpu().numpy()):
        for label in (1, 2):
            error = errors == label
            if error.any():
                padded = np.pad(error, 1).astype(np.uint8)
                depths[sample] += cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    return torch.from_numpy(depths).to(labels.device)


def allowed_pixels(labels: Tensor, depths: Tensor, rule: TrainingClick, coin: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels where a click may land, bool (b, h, w), and its sign, bool (b,); `coin` (b,) in 0..1."""
    deepest = torch.stack([(depths * (labels == label)).amax((1, 2)) for label in (1, 2)], 1)
    positive = deepest[:, 0] > deepest[:, 1]  # equally deep: negative, as published
    if rule.sign == "drawn":
        positive = coin * deepest.sum(1) < deepest[:, 0]
    error = labels == torch.where(positive, 1, 2)[:, None, None]
    # Of the deeper error, also where the sign was drawn: the less deep one may have no pixel then.
    top = deepest.amax(1)[:, None, None]
    if rule.area == "deep":
        return error & (depths > top / 2), positive
    centre = error & (depths >= top)
    if rule.area == "centre":
        return centre, positive
    near = error & (depths <= (NEAR * top).clamp(min=1.0))
    return torch.where((coin < BORDER_PROB)[:, None, None], near, centre), positive


def click_row(valid: Tensor, positive: Tensor, rule: TrainingClick, number: int | None) -> tuple[Tensor, Tensor]:
    """Row that the click takes, int64 (b,), and whether it may."""
    half = valid.shape[1] // 2
    start = torch.where(positive, 0, half)
    used = torch.where(positive[:, None], valid[:, :half], valid[:, half:])
    always = torch.ones_like(positive)
    if rule.row == "numbered":
        if number is None or not 1 <= number <= half:
            raise InputError(f"the number of a training click is {number}: expected 1 to {half}, the rows of a sign")
        return start + half - number, always
    if rule.row == "from_end":
        # The last free row; the first clicks stand at the beginning and are never replaced.
        return start + half - 1 - (~used).flip(1).int().argmax(1), ~used.all(1)
    first = torch.where(used.all(1), half - 1, (~used).int().argmax(1))
    return start + first, always
