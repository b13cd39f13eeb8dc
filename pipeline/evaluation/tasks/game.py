"""Sessions of the robot user, prepared as generators that an evaluator drives."""

import zlib
from dataclasses import dataclass

import numpy as np

from models.refinement.state import State
from models.steps import Steps
from pipeline.clicks import make_policy
from pipeline.data.sample import ObjectRef, Sample
from pipeline.data.sampling import rng_for
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.method import Method
from pipeline.evaluation.play import Played, play


@dataclass(frozen=True, kw_only=True, eq=False)
class Game:
    """A session to run: the name and category of what is segmented, and the generator of its steps."""

    object: str
    category: str
    steps: Steps[Played]


def rng_of(seed: int, *names: str) -> np.random.Generator:
    """Make a random generator from the seed and names: the same for every refinement, order of work and worker."""
    return rng_for(seed, *(zlib.crc32(name.encode()) for name in names))


def played(
    state: State,
    object_mask: np.ndarray,
    ignore_mask: np.ndarray,
    method: Method,
    config: EvaluationConfig,
    rng: np.random.Generator,
    num_before: int = 0,
) -> Steps[Played]:
    """Segment one object from this state by the config's protocol; masks are bool (h, w).

    `num_before`: clicks of an earlier stage, which count as the first of the session.
    """
    return play(
        state,
        method.step,
        object_mask,
        ignore_mask,
        make_policy(config.policy, config.realistic),
        rng=rng,
        max_clicks=config.max_clicks - num_before,
        target_iou=config.target_iou,
        mask_threshold=method.mask_threshold,
        costly_at=[k - num_before for k in config.at_clicks] if config.boundaries else None,
    )


def countable(sample: Sample, ref: ObjectRef, config: EvaluationConfig) -> np.ndarray | str:
    """Return an object's mask without ignored pixels, bool (h, w); or a str that says that it is too small."""
    mask = sample.object_mask(ref) & ~sample.ignore_mask
    if (area := int(mask.sum())) < max(1, config.min_area):
        return f"{ref.id}: {area} pixels that count, fewer than {max(1, config.min_area)}"
    return mask
