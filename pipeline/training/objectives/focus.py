"""FocusCut's objective: one network learns whole objects and close-ups of their borders.

Lin et al., CVPR 2022; docs/PAPERS.md, FocusCut: training.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models.click_maps import ClickBatch
from models.errors import InputError
from models.networks.base import Network
from pipeline.clicks.random_clicks import draw_count
from pipeline.clicks.training_clicks import next_clicks
from pipeline.training.batch import TrainingBatch
from pipeline.training.config import TrainingConfig
from pipeline.training.objectives.scoring import score
from pipeline.training.runner import Runner


def focus(
    network: Runner,
    batch: TrainingBatch,
    config: TrainingConfig,
    shared_rng: np.random.Generator,
    rng: np.random.Generator,
) -> tuple[int, Iterator[Tensor]]:
    """Score the global view and the close-up: both in each step (the public code), or in turn (the paper).

    The global view's previous mask and clicks come from robot clicks on the network's predictions. Their number is
    geometric with `iterate_prob`, the same for the whole batch. Needs `--data.focus.enabled`.
    """
    close_up = batch.focus
    if close_up is None:
        raise InputError("training.objective focus: the stream has no close-ups; give --data.focus.enabled")
    settings = config.focus
    num = draw_count(0, settings.max_iterations, settings.iterate_prob, shared_rng) if settings.iterate_prob else 0
    both = settings.order == "joint"
    views = [view for turn, view in enumerate(("global", "focus")) if both or network.step % 2 == turn]

    def terms() -> Iterator[Tensor]:
        for view in views:
            if view == "focus":
                output = network(close_up.image, close_up.prev_mask, close_up.clicks, **_close_up(network.network))
                yield score(output, close_up.target, config, batch.coarse)
            else:
                prev_mask, clicks = _robot_clicks(network, batch, num, rng)
                yield score(network(batch.image, prev_mask, clicks), batch.target, config, batch.coarse)

    return len(views), terms()


def _robot_clicks(
    network: Runner, batch: TrainingBatch, num: int, rng: np.random.Generator
) -> tuple[Tensor, ClickBatch]:
    prev_mask, clicks = torch.zeros_like(batch.target), batch.clicks
    with network.looking() as look:
        for _ in range(num):
            prev_mask = torch.sigmoid(look(batch.image, prev_mask, clicks).mask_logits.float())
            clicks = next_clicks(clicks, prev_mask, batch.target, rng, law="centre")
    return prev_mask, clicks


def _close_up(network: Network) -> dict[str, bool]:
    """Return the option that marks a view as a close-up, for networks that treat close-ups differently."""
    return {"close_up": True} if type(network).focus_view is not Network.focus_view else {}
