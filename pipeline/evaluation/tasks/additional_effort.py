"""Task: segment all objects of a category, given a golden exemplar for free; only further clicks count (MOIS).

Networks that take no exemplar start from its mask and its clicks, including those on the other objects (docs/PAPERS.md,
iCMFormer++: protocols).
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from models.exemplar import exemplar_of
from models.interaction import Clicks
from models.predictor import open_state
from models.refinement.state import State
from pipeline.clicks.exemplar_clicks import exemplar_clicks
from pipeline.data.sample import Sample
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.method import Method
from pipeline.evaluation.tasks.game import Game, played, rng_of
from pipeline.evaluation.tasks.kinds import Kind, find_kinds


def additional_effort(
    sample: Sample, object_ids: tuple[str, ...], method: Method, config: EvaluationConfig
) -> Iterator[Game | str]:
    """Yield a session for the union of each category with at least two objects whose exemplar is in `object_ids`.

    The exemplar is part of the union.
    """
    kinds, left_out = find_kinds(sample, object_ids, config)
    yield from (f"{object_id}: {reason}" for object_id, reason in left_out.items())
    for kind in kinds:
        if kind.exemplar not in object_ids:
            continue
        if sample.exemplar is not None and sample.exemplar.object_id == kind.exemplar:
            clicks = sample.exemplar.clicks
        else:
            rng = rng_of(config.seed, sample.id, kind.category, "exemplar clicks")
            clicks = exemplar_clicks(kind.exemplar_mask, kind.others, rng, sample.ignore_mask)
        state = given_exemplar(sample.image, kind, clicks, method)
        rng = rng_of(config.seed, sample.id, kind.category, "union")
        steps = played(state, kind.union, sample.ignore_mask, method, config, rng)
        yield Game(object=kind.name, category=kind.category, steps=steps)


def given_exemplar(image: np.ndarray, kind: Kind, clicks: Clicks, method: Method) -> State:
    """Start a session from a finished object: as an exemplar if the method takes one, otherwise as mask and clicks."""
    if method.takes_exemplar:
        example = exemplar_of(kind.exemplar_mask, clicks, kind.others, method.device)
        return open_state(image, device=method.device, example=example)
    return replace(open_state(image, kind.exemplar_mask, method.device), clicks=clicks)
