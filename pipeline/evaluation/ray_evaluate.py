"""Evaluation on Ray: `evaluate_on_ray` runs in the driver, `_Evaluator` in actors that pull small pieces of work.

A network is loaded once per actor, for all refinements. A piece whose actor dies is done again by a restarted actor.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
import ray.exceptions

from models.baselines import BASELINES
from models.errors import InputError, lookup
from models.predictor import Predictor
from models.refinement import Refinement, build
from pipeline.data.sample import Item, Reader
from pipeline.evaluation.config import EvaluationConfig, EvaluationScaling
from pipeline.evaluation.evaluator import Contestant, choose_objects, evaluate
from pipeline.evaluation.results import ObjectRow

Piece = list[tuple[Item, tuple[str, ...]]]
UP = -1


class _Evaluator:
    """Play objects in one actor."""

    def __init__(
        self,
        checkpoint: str | None,
        refinements: Mapping[str, Refinement],
        baselines: Sequence[str],
        reader: Reader,
        config: EvaluationConfig,
        scaling: EvaluationScaling,
    ) -> None:
        import cv2
        import torch

        cv2.setNumThreads(1)
        torch.set_num_threads(scaling.threads)
        self.reader, self.config, self.scaling = reader, config, scaling
        self.checkpoint, self.refinements, self.baselines = checkpoint, refinements, baselines
        self.contestants: dict[str, Contestant] = {}

    def _load(self) -> None:
        """Load at the first piece: what an actor raises while it is made reaches the driver as a text only."""
        for name in self.baselines:
            self.contestants[name] = Contestant(name=name, step=BASELINES[name](), answer=_nothing_to_ask)
        if self.checkpoint is not None:
            predictor = Predictor(
                self.checkpoint, device="cuda" if self.scaling.gpu else "cpu", precision=self.scaling.precision
            )
            for name, refinement in self.refinements.items():
                self.contestants[name] = Contestant(
                    name=name,
                    step=build(refinement, predictor.network.traits),
                    answer=predictor.answer,
                    mask_threshold=refinement.mask_threshold,
                    device=predictor.device,
                    max_batch=self.scaling.max_batch if self.scaling.gpu else 1,
                )

    def ready(self) -> None:
        """Answer, which tells that this actor is up."""

    def evaluate(self, name: str, piece: Piece, dataset: str) -> tuple[list[ObjectRow], list[str], float]:
        """Play a piece; answers rows, refusals and the seconds it took."""
        if not self.contestants:
            self._load()
        started = time.monotonic()
        out = list(evaluate(self.contestants[name], self.reader, piece, self.config, dataset))
        rows = [row for row in out if isinstance(row, ObjectRow)]
        return rows, [row for row in out if isinstance(row, str)], time.monotonic() - started


def _nothing_to_ask(requests: list[Any]) -> list[Any]:
    raise AssertionError(f"a baseline asked for a network: {requests[:1]}")


def evaluate_on_ray(
    *,
    checkpoint: str | None,
    refinements: Mapping[str, Refinement],
    baselines: Sequence[str] = (),
    reader: Reader,
    dataset: str,
    config: EvaluationConfig,
    scaling: EvaluationScaling,
    progress: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> tuple[dict[str, list[ObjectRow]], dict[str, float], list[str]]:
    """Evaluate each refinement and each baseline on the same objects.

    Returns rows by name (in the data set's order), busy seconds by name (summed over actors), and what was refused.
    """
    for name in baselines:
        lookup("baseline", name, BASELINES)
    work = choose_objects(reader.items(), config)
    total = sum(len(ids) for _, ids in work)
    pieces = _pieces(work, scaling.max_batch if scaling.gpu else 2)
    num_actors = min(scaling.actors or _default_actors(scaling), len(pieces))
    options: dict[str, Any] = {"num_cpus": scaling.num_cpus, "max_restarts": 3, "max_task_retries": 3}
    if scaling.gpu:
        options["num_gpus"] = scaling.num_gpus
    kind = ray.remote(**options)(_Evaluator)
    actors = [
        kind.remote(checkpoint, dict(refinements), list(baselines), reader, config, scaling) for _ in range(num_actors)
    ]
    rows: dict[str, list[ObjectRow]] = {}
    seconds: dict[str, float] = {}
    refused: dict[str, None] = {}
    try:
        for name in [*baselines, *refinements]:
            results: dict[int, list[ObjectRow]] = {}
            seconds[name] = 0.0
            for number, (piece_rows, piece_refused, busy) in _pull(actors, name, pieces, dataset):
                results[number] = piece_rows
                seconds[name] += busy
                refused.update(dict.fromkeys(piece_refused))
                progress(name, sum(len(ids) for done in results for _, ids in pieces[done]), total)
            rows[name] = [row for number in sorted(results) for row in results[number]]
    finally:
        for actor in actors:
            ray.kill(actor)  # pyright: ignore[reportArgumentType]
    if not any(rows.values()):
        raise InputError("no object could be evaluated; refused: " + "; ".join(list(refused)[:5]))
    return rows, seconds, list(refused)


def _pull(actors: list[Any], name: str, pieces: list[Piece], dataset: str) -> Any:
    """Yield (piece number, result) as they come; an actor that is up holds one piece running and one waiting.

    An actor for which the cluster has no room yet gets none, so that the others do the work.
    """
    waiting = iter(enumerate(pieces))
    running: dict[Any, tuple[int, Any]] = {actor.ready.remote(): (UP, actor) for actor in actors}

    def give(actor: Any) -> None:
        if (entry := next(waiting, None)) is not None:
            running[actor.evaluate.remote(name, entry[1], dataset)] = (entry[0], actor)

    left = len(pieces)
    while left:
        done, _ = ray.wait(list(running), num_returns=1)
        number, actor = running.pop(done[0])
        give(actor)
        try:
            result = ray.get(done[0])
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise error.cause from None
            raise
        if number == UP:
            give(actor)
        else:
            left -= 1
            yield number, result


def _pieces(work: Piece, size: int) -> list[Piece]:
    """Cut the work into pieces of about `size` objects; an image's objects stay together where they fit."""
    pieces: list[Piece] = []
    current: Piece = []
    for item, ids in work:
        for start in range(0, len(ids), size):
            current.append((item, ids[start : start + size]))
            if sum(len(part) for _, part in current) >= size:
                pieces.append(current)
                current = []
    return [*pieces, current] if current else pieces


def _default_actors(scaling: EvaluationScaling) -> int:
    resources = ray.cluster_resources()
    if scaling.gpu:
        if not resources.get("GPU"):
            raise InputError("--scaling.gpu: Ray finds no GPU here; leave the flag out to evaluate on CPUs")
        return max(1, int(resources["GPU"] / scaling.num_gpus))
    return max(1, int(resources.get("CPU", 1) / max(scaling.num_cpus, 1.0)))
