"""The evaluation of one object, as a generator: robot click, refinement, a row of metrics, until good enough."""

import math
from dataclasses import dataclass

import numpy as np

from models.interaction import Clicks
from models.refinement.state import State, Step
from models.steps import Steps
from pipeline.clicks import Policy
from pipeline.metrics import iou


@dataclass(frozen=True, kw_only=True, eq=False)
class Played:
    """A session of the robot user: its clicks, the IoU after each, and the last mask (bool, h, w)."""

    clicks: Clicks
    ious: tuple[float, ...]
    mask: np.ndarray


def play(
    state: State,
    step: Step,
    object_mask: np.ndarray,
    ignore_mask: np.ndarray,
    policy: Policy,
    *,
    max_clicks: int,
    target_iou: float,
    mask_threshold: float,
) -> Steps[Played]:
    """Click until the IoU first reaches `target_iou` or `max_clicks` are made (spec 6.2)."""
    mask = np.zeros(state.hw, bool)
    if state.mask_prob is not None:
        mask = state.mask_prob[0].cpu().numpy() > mask_threshold
    ious: list[float] = []
    while len(ious) < max_clicks:
        click = policy(object_mask, ignore_mask, mask, state.clicks)
        state = yield from step(state.with_click(click))
        assert state.mask_prob is not None
        mask = state.mask_prob[0].cpu().numpy() > mask_threshold
        quality = iou(mask, object_mask, ignore_mask)
        ious.append(0.0 if math.isnan(quality) else quality)
        if np.float32(ious[-1]) >= np.float32(target_iou):
            break
    return Played(clicks=state.clicks, ious=tuple(ious), mask=mask)
