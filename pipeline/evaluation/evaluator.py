"""Evaluate many objects with one predictor: the robot's sessions run side by side and share forwards."""

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from models import rle
from models.errors import InputError, lookup
from models.fingerprints import fingerprint
from models.steps import Steps, run_many
from pipeline.clicks import POLICIES
from pipeline.data.loading import load_or_refuse
from pipeline.data.sample import BadItem, Item, Reader, Sample
from pipeline.data.sampling import rng_for
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.method import Method
from pipeline.evaluation.object_row import ObjectRow
from pipeline.evaluation.play import Played
from pipeline.evaluation.tasks import TASKS, Game


def choose_objects(items: Sequence[Item], config: EvaluationConfig) -> list[tuple[Item, tuple[str, ...]]]:
    """Choose the objects to evaluate, by item: all of them, or `max_objects` drawn by the seed."""
    pairs = [(number, object_id) for number, item in enumerate(items) for object_id in item.object_ids]
    if not pairs:
        raise InputError("there is nothing to evaluate: the data set lists no objects, expected at least one")
    if config.max_objects is not None and config.max_objects < len(pairs):
        order = rng_for(config.seed, 0).permutation(len(pairs))[: config.max_objects]
        pairs = [pairs[k] for k in sorted(order.tolist())]
    chosen: dict[int, list[str]] = {}
    for number, object_id in pairs:
        chosen.setdefault(number, []).append(object_id)
    return [(items[number], tuple(ids)) for number, ids in chosen.items()]


def evaluate(
    method: Method,
    reader: Reader,
    work: Sequence[tuple[Item, tuple[str, ...]]],
    config: EvaluationConfig,
    dataset: str,
) -> Iterator[ObjectRow | str]:
    """Evaluate every object; yields rows as sessions end, then a str with name and reason per object left out."""
    task = lookup("task", config.task, TASKS)
    lookup("policy", config.policy, POLICIES)
    refused: list[str] = []
    games: list[tuple[str, Game]] = []

    def tasks() -> Iterator[Steps[Played]]:
        for item, object_ids in work:
            sample, reasons = load_or_refuse(reader, item)
            wanted = tuple(f"{name}: " for name in (item.id, *object_ids))
            refused.extend(text for text in reasons if text.startswith(wanted))
            if sample is None:
                continue
            for game in task(sample, object_ids, method, config):
                if isinstance(game, str):
                    refused.append(game)
                else:
                    games.append((sample.id, game))
                    yield game.steps

    with ThreadPoolExecutor(max_workers=2) as pool, torch.inference_mode():
        in_flight = max(2, 2 * method.max_batch)
        driver = run_many(tasks(), method.answer, pool, in_flight=in_flight, max_batch=method.max_batch)
        for number, result in driver:
            item_id, game = games[number]
            if isinstance(result, Exception):
                raise RuntimeError(f"evaluating object {game.object} of {item_id} failed: {result}") from result
            yield _row(item_id, game, result, method, config, dataset)
    yield from refused


def known_photos(opened: Mapping[str, Sample | BadItem], trained_on: Collection[int]) -> dict[str, int]:
    """Return the items whose photo a network was trained on, with the photo's fingerprint."""
    if not trained_on:
        return {}
    photos = {item: fingerprint(sample.image) for item, sample in opened.items() if isinstance(sample, Sample)}
    return {item: number for item, number in photos.items() if number in trained_on}


def _row(item_id: str, game: Game, result: Played, method: Method, config: EvaluationConfig, dataset: str) -> ObjectRow:
    encoded = rle.encode(result.mask)
    return ObjectRow(
        dataset=dataset,
        refinement=method.name,
        policy=config.policy,
        item=item_id,
        object=game.object,
        category=game.category,
        clicks=result.clicks.rows(),
        measured={name: list(values) for name, values in result.measured.items()},
        num_honoured=result.num_honoured,
        counts=dataclasses.asdict(result.counts),
        height=result.mask.shape[0],
        width=result.mask.shape[1],
        mask=encoded["counts"],
    )
