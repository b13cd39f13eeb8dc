"""Clicks that depend on predictions, in the training loop (spec 4.2): where they may land, and which row they take.

Rows: the first half of a sample's 2K rows holds positive clicks, the second half negative ones.
"""

import cv2
import numpy as np
import torch
from torch import Tensor

from models.click_maps import ClickBatch

THRESHOLD = 0.49


def admissible(mask_prob: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, bool]:
    """Pixels (bool, h, w) where the next click may land, and its sign; no pixel if nothing is wrong.

    The larger error's pixels more than half as deep as its deepest, by the 5x5 approximate distance transform of the
    public code. `target` 1 object, 0 background, -1 ignored: ignored pixels count as background, as published.
    """
    missed = (target > 0.5) & (mask_prob < THRESHOLD)
    false_alarm = (target <= 0.5) & (mask_prob > THRESHOLD)
    depths = [
        cv2.distanceTransform(np.pad(error, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
        for error in (missed, false_alarm)
    ]
    positive = bool(depths[0].max() > depths[1].max())
    depth = depths[0] if positive else depths[1]
    return depth > depth.max() / 2, positive


def free_row(valid: np.ndarray, positive: bool) -> int:
    """First unused row of the sign's half, or its last row if all are used (CFR-ICL's rule)."""
    half = len(valid) // 2
    start = 0 if positive else half
    used = valid[start : start + half]
    return start + (half - 1 if used.all() else int(np.argmin(used)))


def numbered_row(num_rows: int, positive: bool, number: int) -> int:
    """Row of the `number`-th generated click (from 1), counted from the end of the sign's half (RITM's rule)."""
    half = num_rows // 2
    return (half if positive else num_rows) - number


def add_clicks(
    clicks: ClickBatch, mask_prob: Tensor, target: Tensor, rng: np.random.Generator, *, number: int | None = None
) -> ClickBatch:
    """Add one click per sample at a random admissible pixel; samples that are right already keep theirs.

    `mask_prob` and `target` (b, 1, h, w). `number` None: the first free row (CFR-ICL); else RITM's numbered row, which
    may replace a random click.
    """
    yx, valid = clicks.yx.clone(), clicks.valid.clone()
    probs, targets = mask_prob.detach().float().cpu().numpy()[:, 0], target.cpu().numpy()[:, 0]
    for sample, (prob, gt) in enumerate(zip(probs, targets, strict=True)):
        allowed, positive = admissible(prob, gt)
        pixels = np.flatnonzero(allowed)
        if len(pixels) == 0:
            continue
        row = (
            free_row(valid[sample].cpu().numpy(), positive)
            if number is None
            else numbered_row(valid.shape[1], positive, number)
        )
        y, x = divmod(int(pixels[rng.integers(len(pixels))]), prob.shape[1])
        yx[sample, row] = torch.tensor([float(y), float(x)], device=yx.device)
        valid[sample, row] = True
    return ClickBatch(yx, clicks.positive, valid, clicks.first)
