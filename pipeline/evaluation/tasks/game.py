"""One session of the robot user, ready to be driven."""

import zlib
from dataclasses import dataclass

import numpy as np

from models.refinement.state import State
from models.steps import Steps
from pipeline.clicks import make_policy
from pipeline.data.sampling import rng_for
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.contestant import Contestant
from pipeline.evaluation.play import Played, play


@dataclass(frozen=True, kw_only=True, eq=False)
class Game:
    """What is segmented, and the generator that plays it."""

    object: str
    category: str
    steps: Steps[Played]


def rng_of(seed: int, item_id: str, object_id: str) -> np.random.Generator:
    """Make the generator of one object's robot user: the same for every refinement, order and number of workers."""
    return rng_for(seed, *(zlib.crc32(name.encode()) for name in (item_id, object_id)))


def played(
    state: State,
    object_mask: np.ndarray,
    ignore_mask: np.ndarray,
    contestant: Contestant,
    config: EvaluationConfig,
    rng: np.random.Generator,
    max_clicks: int | None = None,
) -> Steps[Played]:
    """Play one object from this state by the config's rules; masks bool (h, w)."""
    return play(
        state,
        contestant.step,
        object_mask,
        ignore_mask,
        make_policy(config.policy, config.realistic),
        rng=rng,
        max_clicks=config.max_clicks if max_clicks is None else max_clicks,
        target_iou=config.target_iou,
        mask_threshold=contestant.mask_threshold,
        boundaries_at=config.at_clicks if config.boundaries else None,
    )
