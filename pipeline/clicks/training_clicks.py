"""Clicks of the training loop, which depend on predictions: where they may fall, and which row they take.

docs/PAPERS.md, RITM: training. Rows: the first half of a sample's 2K rows holds positive clicks, the second half
negative ones.

Depths come from one of two transforms: on a CPU, OpenCV's with the 5x5 kernel, as in the public code; on a GPU, the
exact one (device_distance.py), which stays on the device. The code after that is the same. The 5x5 transform is up to 2
% off, so that pixels near half of the largest depth are allowed by one transform and not by the other (in 76 % of 150
masks of 224 pixels, and there for 3 % of the pixels that either allows). Of two errors of nearly the same depth, the
other one may be the deeper (3 %).
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

    `sign`: the sign of the deeper error, or drawn with odds of the two depths. `area`: pixels more than half as deep as
    the deepest; the deepest pixels; or, half the time each, the deepest pixels or pixels near the border. `row`: the
    first free row of the sign's half, or its last if all are used; the `number`-th from its end; or the last free one,
    and no click if all are used.
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
"""In order: RITM and SimpleClick, CFR-ICL, EMC-Click, FocusCut's robot user, iCMFormer++.

The last two consider all errors of a sign, whereas the robot users of evaluation consider the largest connected one."""


def error_labels(mask_prob: Tensor, target: Tensor) -> Tensor:
    """Label errors, int8: 1 missed object, 2 false alarm, 0 correct; a probability of exactly 0.49 is neither error.

    `target` is 1 on the object, 0 on background and -1 on ignored pixels, which count as background, as published.
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
    """Add one click per sample by the rule `law` of TRAINING_CLICKS, except where no pixel is allowed.

    `mask_prob` and `target` (b, 1, h, w). `number` counts the clicks made so far in the step, from 1 (law ritm).
    `exact` None: the exact transform, unless the masks are on a CPU. Always takes two numbers per sample from `rng`,
    and never synchronises with the device.
    """
    rule = lookup("training click", law, TRAINING_CLICKS)
    mask_prob, target = mask_prob.detach()[:, 0].float(), target[:, 0]
    labels = error_labels(mask_prob, target)
    exact = labels.device.type != "cpu" if exact is None else exact
    depths = label_distances(labels).float().sqrt() * (labels > 0) if exact else depths_5x5(labels)
    draws = torch.from_numpy(rng.random((2, len(labels))))
    if labels.is_cuda:
        # A copy from pageable memory would wait for the device.
        draws = draws.pin_memory().to(labels.device, non_blocking=True)
    allowed, positive = allowed_pixels(labels, depths, rule, draws[1])
    # The pixel of a random rank among the allowed ones, in row-major order.
    ranks = allowed.flatten(1).cumsum(1, dtype=torch.int32)
    count = ranks[:, -1]
    # Rounding may reach the count although a draw is below 1.
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
    """Return each error pixel's distance to the border by OpenCV's 5x5 kernel, on the CPU; float32 (b, h, w)."""
    depths = np.zeros(labels.shape, np.float32)
    for sample, errors in enumerate(labels.cpu().numpy()):
        for label in (1, 2):
            error = errors == label
            if error.any():
                padded = np.pad(error, 1).astype(np.uint8)
                depths[sample] += cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    return torch.from_numpy(depths).to(labels.device)


def allowed_pixels(labels: Tensor, depths: Tensor, rule: TrainingClick, coin: Tensor) -> tuple[Tensor, Tensor]:
    """Return where a click may fall, bool (b, h, w), and whether it is positive, bool (b,); `coin` (b,) in 0..1."""
    deepest = torch.stack([(depths * (labels == label)).amax((1, 2)) for label in (1, 2)], 1)
    positive = deepest[:, 0] > deepest[:, 1]  # equally deep: negative, as published
    if rule.sign == "drawn":
        positive = coin * deepest.sum(1) < deepest[:, 0]
    error = labels == torch.where(positive, 1, 2)[:, None, None]
    # The limit is the deeper error's even if the sign was drawn; the other error may then have no pixel.
    top = deepest.amax(1)[:, None, None]
    if rule.area == "deep":
        return error & (depths > top / 2), positive
    centre = error & (depths >= top)
    if rule.area == "centre":
        return centre, positive
    near = error & (depths <= (NEAR * top).clamp(min=1.0))
    return torch.where((coin < BORDER_PROB)[:, None, None], near, centre), positive


def click_row(valid: Tensor, positive: Tensor, rule: TrainingClick, number: int | None) -> tuple[Tensor, Tensor]:
    """Return the row that the click takes, int64 (b,), and whether it may take it."""
    half = valid.shape[1] // 2
    start = torch.where(positive, 0, half)
    used = torch.where(positive[:, None], valid[:, :half], valid[:, half:])
    always = torch.ones_like(positive)
    if rule.row == "numbered":
        if number is None or not 1 <= number <= half:
            raise InputError(f"the number of a training click is {number}: expected 1 to {half}, the rows of a sign")
        return start + half - number, always
    if rule.row == "from_end":
        # The last free row; the first clicks are at the beginning and are never replaced.
        return start + half - 1 - (~used).flip(1).int().argmax(1), ~used.all(1)
    first = torch.where(used.all(1), half - 1, (~used).int().argmax(1))
    return start + first, always
