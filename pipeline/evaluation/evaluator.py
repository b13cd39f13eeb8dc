"""Evaluate many objects with one predictor: the robot's sessions are driven side by side and share forwards."""

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch

from models import rle
from models.errors import InputError
from models.predictor import open_state
from models.refinement.state import Step
from models.steps import Answer, Steps, run_many
from pipeline.clicks import make_policy
from pipeline.data.loading import load_or_refuse
from pipeline.data.sample import Item, Reader, Sample
from pipeline.data.sampling import rng_for
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.play import Played, play
from pipeline.evaluation.results import ObjectRow


@dataclass(frozen=True, kw_only=True, eq=False)
class Contestant:
    """What is evaluated: a step, who answers its requests, and the threshold of its masks."""

    name: str
    step: Step
    answer: Answer
    mask_threshold: float = 0.49
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    max_batch: int = 1
    """Views per forward: on a CPU a batch saves nothing."""


def choose_objects(items: Sequence[Item], config: EvaluationConfig) -> list[tuple[Item, tuple[str, ...]]]:
    """Pick the objects to evaluate, by item: all, or `max_objects` in an order drawn by the seed."""
    pairs = [(number, object_id) for number, item in enumerate(items) for object_id in item.object_ids]
    if not pairs:
        raise InputError("there is nothing to evaluate: the data set lists no objects")
    if config.max_objects is not None and config.max_objects < len(pairs):
        order = rng_for(config.seed, 0).permutation(len(pairs))[: config.max_objects]
        pairs = [pairs[k] for k in sorted(order.tolist())]
    chosen: dict[int, list[str]] = {}
    for number, object_id in pairs:
        chosen.setdefault(number, []).append(object_id)
    return [(items[number], tuple(ids)) for number, ids in chosen.items()]


def rng_of(seed: int, item_id: str, object_id: str) -> np.random.Generator:
    """Make the generator of one object's robot user: the same for every refinement, order and number of workers."""
    return rng_for(seed, *(zlib.crc32(name.encode()) for name in (item_id, object_id)))


def evaluate(
    contestant: Contestant,
    reader: Reader,
    work: Sequence[tuple[Item, tuple[str, ...]]],
    config: EvaluationConfig,
    dataset: str,
) -> Iterator[ObjectRow | str]:
    """Play every object; yields rows as they end, and for what could not be used its name and reason (a str)."""
    policy = make_policy(config.policy, config.realistic)
    refused: list[str] = []
    played: list[tuple[Sample, str]] = []

    def tasks() -> Iterator[Steps[Played]]:
        for item, object_ids in work:
            sample, reasons = load_or_refuse(reader, item)
            wanted = {item.id, *object_ids}
            refused.extend(text for text in reasons if text.split(": ")[0] in wanted)
            if sample is None:
                continue
            refs = {ref.id: ref for ref in sample.objects}
            state = open_state(sample.image, device=contestant.device)
            for object_id in object_ids:
                if object_id not in refs:
                    continue
                mask = sample.object_mask(refs[object_id]) & ~sample.ignore_mask
                if mask.sum() < max(1, config.min_area):
                    refused.append(f"{object_id}: {int(mask.sum())} pixels that count, fewer than {config.min_area}")
                    continue
                played.append((sample, object_id))
                yield play(
                    state,
                    contestant.step,
                    mask,
                    sample.ignore_mask,
                    policy,
                    rng=rng_of(config.seed, item.id, object_id),
                    max_clicks=config.max_clicks,
                    target_iou=config.target_iou,
                    mask_threshold=contestant.mask_threshold,
                    boundaries_at=config.at_clicks if config.boundaries else None,
                )

    with ThreadPoolExecutor(max_workers=2) as pool, torch.inference_mode():
        in_flight = max(2, 2 * contestant.max_batch)
        driver = run_many(tasks(), contestant.answer, pool, in_flight=in_flight, max_batch=contestant.max_batch)
        for number, result in driver:
            sample, object_id = played[number]
            if isinstance(result, Exception):
                raise RuntimeError(f"evaluating object {object_id} of {sample.id} failed: {result}") from result
            yield _row(sample, object_id, result, contestant, config, dataset)
    yield from refused


def _row(
    sample: Sample, object_id: str, result: Played, contestant: Contestant, config: EvaluationConfig, dataset: str
) -> ObjectRow:
    encoded = rle.encode(result.mask)
    return ObjectRow(
        dataset=dataset,
        refinement=contestant.name,
        policy=config.policy,
        item=sample.id,
        object=object_id,
        clicks=result.clicks.rows(),
        ious=list(result.ious),
        bious=list(result.bious),
        assds=list(result.assds),
        height=result.mask.shape[0],
        width=result.mask.shape[1],
        mask=encoded["counts"],
    )
