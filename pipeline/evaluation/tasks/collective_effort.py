"""Task: segment all objects of a category, where clicks on the exemplar count as well (MOIS).

docs/PAPERS.md, iCMFormer++: protocols. One network runs both stages (ours: the paper makes exemplars with a frozen
network for single objects).
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from models.exemplar import exemplar_of
from models.interaction import Clicks
from models.predictor import open_state
from models.refinement.state import Counts, State, Step
from models.steps import Steps
from pipeline.clicks import make_policy
from pipeline.data.sample import Sample
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.measures import measured
from pipeline.evaluation.method import Method
from pipeline.evaluation.play import Played, by_name, play
from pipeline.evaluation.tasks.game import Game, played, rng_of
from pipeline.evaluation.tasks.kinds import Kind, find_kinds
from pipeline.evaluation.tasks.single import single

EXEMPLAR_CLICKS = 5
MIN_GAIN = 0.01


def collective_effort(
    sample: Sample, object_ids: tuple[str, ...], method: Method, config: EvaluationConfig
) -> Iterator[Game | str]:
    """Yield the sessions of each category with at least two objects.

    A method that takes exemplars has one session per sample and category, yielded if the category's exemplar is in
    `object_ids`. Any other method has one session per object.
    """
    kinds, left_out = find_kinds(sample, object_ids, config)
    yield from (f"{object_id}: {reason}" for object_id, reason in left_out.items())
    if not method.takes_exemplar:
        members = {object_id for kind in kinds for object_id in kind.masks}
        yield from single(sample, tuple(each for each in object_ids if each in members), method, config)
        return
    for kind in kinds:
        if kind.exemplar in object_ids:
            steps = two_stages(sample, kind, method, config)
            yield Game(object=kind.name, category=kind.category, steps=steps)


def two_stages(sample: Sample, kind: Kind, method: Method, config: EvaluationConfig) -> Steps[Played]:
    """Segment the exemplar, then the union with the resulting exemplar; at most `config.max_clicks` clicks in all.

    Stage 1 ends after 5 clicks, or after a click that gains less than 1 % IoU (which counts). Its measures compare the
    exemplar's mask with the union. If stage 1 leaves an empty mask, stage 2 has no exemplar.
    """
    union, ignore = kind.union, sample.ignore_mask
    rng = rng_of(config.seed, sample.id, kind.category, "union")
    masks: list[np.ndarray] = []
    first = yield from play(
        open_state(sample.image, device=method.device),
        _watched(method, masks),
        kind.exemplar_mask,
        ignore,
        make_policy(config.policy, config.realistic),
        rng=rng,
        max_clicks=min(EXEMPLAR_CLICKS, config.max_clicks),
        target_iou=config.target_iou,
        mask_threshold=method.mask_threshold,
        min_gain=MIN_GAIN,
    )
    taken = [measured(mask, union, ignore, costly=False) for mask in masks]
    finished = bool(np.float32(taken[-1]["iou"]) >= np.float32(config.target_iou)) or len(masks) == config.max_clicks
    wanted = [*config.at_clicks, len(masks)] if finished else config.at_clicks
    for number in wanted if config.boundaries else ():
        if number <= len(masks):
            taken[number - 1] |= measured(masks[number - 1], union, ignore, costly=True)
    first = dataclasses.replace(first, measured=by_name(taken))
    if finished:
        return first
    example = exemplar_of(first.mask, first.clicks, device=method.device) if first.mask.any() else None
    state = open_state(sample.image, device=method.device, example=example)
    second = yield from played(state, union, ignore, method, config, rng, num_before=len(masks))
    return _joined(first, second)


def _watched(method: Method, masks: list[np.ndarray]) -> Step:
    """Wrap the method's step so that each of its masks is appended to `masks`."""

    def step(state: State) -> Steps[State]:
        answered = yield from method.step(state)
        assert answered.mask_prob is not None
        masks.append(answered.mask_prob[0].cpu().numpy() > method.mask_threshold)
        return answered

    return step


def _joined(first: Played, second: Played) -> Played:
    counts = {name: value + getattr(second.counts, name) for name, value in dataclasses.asdict(first.counts).items()}
    counts["focus_distance"] = second.counts.focus_distance  # a value of the newest click, not a sum
    return Played(
        clicks=Clicks.of([*first.clicks.rows(), *second.clicks.rows()]),
        measured={name: values + second.measured[name] for name, values in first.measured.items()},
        mask=second.mask,
        num_honoured=first.num_honoured + second.num_honoured,
        counts=Counts(**counts),
    )
