"""The evaluation of one object as a generator: robot click, refinement, measures, until the mask is good enough."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from models.interaction import Clicks
from models.refinement.state import Counts, State, Step
from models.steps import Steps
from pipeline.clicks import Policy
from pipeline.evaluation.measures import measured, of_clicks


@dataclass(frozen=True, kw_only=True, eq=False)
class Played:
    """A finished session of the robot user: its clicks, the measures after each, and the last mask, bool (h, w).

    Clicks that were given at the start (an exemplar's) are not included. `measured` holds a value per click for each
    measure, by name: None where it was not measured. `num_honoured` is the number of clicks after which the mask had
    their sign at their pixel; `counts` says what the refinements did.
    """

    clicks: Clicks
    measured: dict[str, tuple[float | None, ...]]
    mask: np.ndarray
    num_honoured: int = 0
    counts: Counts = field(default_factory=Counts)

    @property
    def ious(self) -> tuple[float, ...]:
        """IoU after each click; always measured."""
        return cast(tuple[float, ...], self.measured["iou"])


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
    costly_at: Sequence[int] | None = None,
    min_gain: float | None = None,
) -> Steps[Played]:
    """Click until the IoU reaches `target_iou` or `max_clicks` are made (docs/PAPERS.md, RITM: robot user and metrics).

    The robot sees the clicks that `state` already has and does not click their pixels again; they do not count. A click
    that raises the IoU by less than `min_gain` is the last one. Only the policy uses `rng`. Costly measures are taken
    after the clicks `costly_at` (from 1) and after the last one; None: never.
    """
    mask = np.zeros(state.hw, bool)
    if state.mask_prob is not None:
        mask = state.mask_prob[0].cpu().numpy() > mask_threshold
    num_given = len(state.clicks)
    before = measured(mask, object_mask, ignore_mask, costly=False)["iou"]
    taken: list[dict[str, float]] = []
    num_honoured, done = 0, False
    while not done:
        click = policy(object_mask, ignore_mask, mask, state.clicks, rng)
        state = yield from step(state.with_click(click))
        assert state.mask_prob is not None
        mask = state.mask_prob[0].cpu().numpy() > mask_threshold
        num_honoured += state.honoured(mask_threshold)
        found, number = measured(mask, object_mask, ignore_mask, costly=False), len(taken) + 1
        iou = found["iou"]
        done = bool(np.float32(iou) >= np.float32(target_iou)) or number == max_clicks
        done = done or (min_gain is not None and iou - before < min_gain)
        before = iou
        if costly_at is not None and (done or number in costly_at):
            found |= measured(mask, object_mask, ignore_mask, costly=True)
        taken.append(found)
    return Played(
        clicks=Clicks(state.clicks.yx[num_given:], state.clicks.positive[num_given:]),
        measured=by_name(taken),
        mask=mask,
        num_honoured=num_honoured,
        counts=state.counts,
    )


def by_name(taken: Sequence[dict[str, float]]) -> dict[str, tuple[float | None, ...]]:
    """Regroup the measures after each click by measure; None where a value is missing."""
    return {name: tuple(each.get(name) for each in taken) for name in of_clicks()}
