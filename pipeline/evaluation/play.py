"""The evaluation of one object, as a generator: robot click, refinement, a row of metrics, until good enough."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.interaction import Clicks
from models.refinement.state import Counts, State, Step
from models.steps import Steps
from pipeline.boundaries import assd, biou
from pipeline.clicks import Policy
from pipeline.metrics import iou


@dataclass(frozen=True, kw_only=True, eq=False)
class Played:
    """A session of the robot user: its clicks, the IoU after each, and the last mask (bool, h, w).

    Clicks that the session began with (an exemplar's) are none of them. `bious` and `assds` are as long as `ious`; None
    after the clicks where they were not measured. `num_honoured` clicks left the mask with their sign at their pixel;
    `counts` is what refinements did.
    """

    clicks: Clicks
    ious: tuple[float, ...]
    mask: np.ndarray
    bious: tuple[float | None, ...]
    assds: tuple[float | None, ...]
    num_honoured: int = 0
    counts: Counts = field(default_factory=Counts)


def play(
    state: State,
    step: Step,
    object_mask: np.ndarray,
    ignore_mask: np.ndarray,
    policy: Policy,
    *,
    rng: np.random.Generator,
    max_clicks: int,
    target_iou: float,
    mask_threshold: float,
    boundaries_at: Sequence[int] | None = None,
    min_gain: float | None = None,
) -> Steps[Played]:
    """Click until the IoU first reaches `target_iou` or `max_clicks` are made (spec 6.2).

    The robot sees the clicks that `state` comes with, and clicks none of their pixels again; they do not count. A click
    that raises the IoU by less than `min_gain` is the last one. `rng` is the policy's alone. Borders are compared after
    the clicks `boundaries_at` (from 1) and after the last one; None: never.
    """
    mask = np.zeros(state.hw, bool)
    if state.mask_prob is not None:
        mask = state.mask_prob[0].cpu().numpy() > mask_threshold
    num_given = len(state.clicks)
    before = _quality(mask, object_mask, ignore_mask)
    ious: list[float] = []
    num_honoured = 0
    borders: list[tuple[float | None, float | None]] = []
    while len(ious) < max_clicks:
        click = policy(object_mask, ignore_mask, mask, state.clicks, rng)
        state = yield from step(state.with_click(click))
        assert state.mask_prob is not None
        mask = state.mask_prob[0].cpu().numpy() > mask_threshold
        num_honoured += state.honoured(mask_threshold)
        ious.append(_quality(mask, object_mask, ignore_mask))
        done = bool(np.float32(ious[-1]) >= np.float32(target_iou)) or len(ious) == max_clicks
        done = done or (min_gain is not None and ious[-1] - before < min_gain)
        before = ious[-1]
        wanted = boundaries_at is not None and (done or len(ious) in boundaries_at)
        borders.append(borders_between(mask, object_mask & ~ignore_mask) if wanted else (None, None))
        if done:
            break
    return Played(
        clicks=Clicks(state.clicks.yx[num_given:], state.clicks.positive[num_given:]),
        ious=tuple(ious),
        mask=mask,
        bious=tuple(each for each, _ in borders),
        assds=tuple(each for _, each in borders),
        num_honoured=num_honoured,
        counts=state.counts,
    )


def _quality(mask: np.ndarray, object_mask: np.ndarray, ignore_mask: np.ndarray) -> float:
    """IoU; 0 where nothing counts."""
    quality = iou(mask, object_mask, ignore_mask)
    return 0.0 if math.isnan(quality) else quality


def borders_between(mask: np.ndarray, object_mask: np.ndarray) -> tuple[float | None, float | None]:
    """BIoU and ASSD; None where both masks are empty, so that neither is defined."""
    if not (mask.any() or object_mask.any()):
        return None, None
    return biou(mask, object_mask), assd(mask, object_mask)
