"""Evaluate on Ray: `evaluate_on_ray` runs in the driver, `_Evaluator` in actors that pull small pieces of work.

Each actor loads the network once for all refinements. If an actor dies, its piece is repeated by the restarted actor:
without limit if its node was preempted, otherwise at most `RESTARTS` times.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import ray.exceptions

from models import checkpoint as checkpoints
from models.baselines import BASELINES
from models.errors import InputError, lookup
from models.fingerprints import trained_on
from models.onnx_backend import onnx_files
from models.predictor import Predictor
from models.refinement import Refinement, build
from pipeline.data.ray_data import RESTARTS
from pipeline.data.sample import BadItem, Item, Reader, Sample
from pipeline.evaluation.config import EvaluationConfig, EvaluationScaling
from pipeline.evaluation.evaluator import choose_objects, evaluate, known_photos
from pipeline.evaluation.journal import Journal, PieceResult
from pipeline.evaluation.method import Method
from pipeline.evaluation.object_row import ObjectRow
from pipeline.evaluation.shared_answers import SharedAnswers
from pipeline.nodes import placed
from pipeline.ray_refusals import outliving

Piece = list[tuple[Item, tuple[str, ...]]]
UP = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """One data set under one protocol."""

    dataset: str
    reader: Reader
    config: EvaluationConfig


@dataclass(frozen=True, kw_only=True)
class PartResult:
    """Results of a part: rows by method, in the data set's order; busy seconds by method, summed over actors; refusals.

    `trained_on`: fingerprints of photos that the checkpoint was trained on, by item.
    """

    rows: dict[str, list[ObjectRow]]
    seconds: dict[str, float]
    refused: list[str]
    trained_on: dict[str, int]


class _Evaluator:
    """Evaluate objects in one actor."""

    def __init__(
        self,
        checkpoint: str | None,
        refinements: Mapping[str, Refinement],
        baselines: Sequence[str],
        parts: Sequence[Part],
        scaling: EvaluationScaling,
    ) -> None:
        import cv2
        import torch

        cv2.setNumThreads(1)
        torch.set_num_threads(scaling.threads)
        self.parts, self.scaling = parts, scaling
        self.checkpoint, self.refinements, self.baselines = checkpoint, refinements, baselines
        self.methods: list[Method] = []
        self.shared: SharedAnswers | None = None
        self.trained_on: set[int] = set()

    def _load(self) -> None:
        """Load the methods at the first piece: errors of an actor's constructor reach the driver only as text."""
        for name in self.baselines:
            self.methods.append(Method(name=name, step=BASELINES[name](), answer=_nothing_to_ask))
        if self.checkpoint is not None:
            predictor = Predictor(
                self.checkpoint,
                device="cuda" if self.scaling.gpu else "cpu",
                precision=self.scaling.precision,
                backend=self.scaling.backend,
            )
            self.shared = SharedAnswers(predictor.answer)
            self.trained_on = trained_on(checkpoints.describe(self.checkpoint))
            for name, refinement in self.refinements.items():
                self.methods.append(
                    Method(
                        name=name,
                        step=build(refinement, predictor.network.traits),
                        answer=self.shared if len(self.refinements) > 1 else predictor.answer,
                        mask_threshold=refinement.mask_threshold,
                        takes_exemplar=predictor.network.traits.exemplar,
                        device=predictor.device,
                        max_batch=self.scaling.max_batch if self.scaling.gpu else 1,
                    )
                )

    def ready(self) -> None:
        """Return, which shows that this actor has started."""

    def evaluate(self, part_number: int, piece: Piece) -> PieceResult:
        """Evaluate a piece with all methods, one after another, so that they share equal requests."""
        if not self.methods:
            self._load()
        part = self.parts[part_number]
        reader = OnceRead(part.reader)
        rows: dict[str, list[ObjectRow]] = {}
        seconds: dict[str, float] = {}
        refused: dict[str, None] = {}
        for method in self.methods:
            started, saved = time.monotonic(), self._saved()
            out = list(evaluate(method, reader, piece, part.config, part.dataset))
            rows[method.name] = [row for row in out if isinstance(row, ObjectRow)]
            refused.update(dict.fromkeys(text for text in out if isinstance(text, str)))
            # An answer from the cache is charged as if it had been computed, so refinements can be compared by time.
            seconds[method.name] = time.monotonic() - started + self._saved() - saved
        known = known_photos(reader.opened, self.trained_on)
        return PieceResult(rows=rows, seconds=seconds, refused=list(refused), trained_on=known)

    def _saved(self) -> float:
        return 0.0 if self.shared is None else self.shared.saved_seconds


class OnceRead:
    """A reader that opens each item once: all methods of a piece use the same few items."""

    def __init__(self, reader: Reader) -> None:
        self._reader, self.opened = reader, dict[str, Sample | BadItem]()

    def items(self) -> Sequence[Item]:
        """List the wrapped reader's items."""
        return self._reader.items()

    def load(self, item: Item) -> Sample:
        """Open an item, or repeat the result or the BadItem of the first time."""
        if item.id not in self.opened:
            try:
                self.opened[item.id] = self._reader.load(item)
            except BadItem as error:
                self.opened[item.id] = error
        opened = self.opened[item.id]
        if isinstance(opened, BadItem):
            raise opened
        return opened


def _nothing_to_ask(requests: list[Any]) -> list[Any]:
    raise AssertionError(f"a baseline asked for a network: {requests[:1]}")


def evaluate_on_ray(
    *,
    checkpoint: str | None,
    refinements: Mapping[str, Refinement],
    baselines: Sequence[str] = (),
    parts: Sequence[Part],
    scaling: EvaluationScaling,
    journal: Journal | None = None,
    progress: Callable[[Part, int, int], None] = lambda part, done, total: None,
) -> list[PartResult]:
    """Evaluate each refinement and each baseline on the same objects of every part.

    Pieces that `journal` holds are not repeated; every finished piece is recorded there at once. Raises InputError for
    a part in which no object could be evaluated.
    """
    for name in baselines:
        lookup("baseline", name, BASELINES)
    journal = journal or Journal(None, None)
    work = [_pieces(choose_objects(part.reader.items(), part.config), piece_size(scaling)) for part in parts]
    journal.check(lambda part, k: {item.id for item, _ in _piece(work, part, k)})
    missing = [
        (number, k, piece)
        for number, pieces in enumerate(work)
        for k, piece in enumerate(pieces)
        if (number, k) not in journal.done
    ]
    if missing:
        if checkpoint is not None and scaling.backend == "onnx":
            onnx_files(checkpoint)  # export them once, before all actors need them
        num_actors = min(max(1, scaling.actors), len(missing))
        options: dict[str, Any] = {"num_cpus": scaling.num_cpus, "max_restarts": RESTARTS, "max_task_retries": -1}
        if scaling.gpu:
            options["num_gpus"] = scaling.num_gpus
        options |= placed(scaling.nodes)
        kind = ray.remote(**options)(_Evaluator)
        given = (checkpoint, dict(refinements), list(baselines), list(parts), scaling)
        actors = [kind.remote(*given) for _ in range(num_actors)]
        try:
            for number, k, result in _pull(actors, missing):
                journal.add(number, k, result)
                done = sum(len(ids) for i, piece in enumerate(work[number]) if (number, i) in journal.done
                           for _, ids in piece)  # fmt: skip
                progress(parts[number], done, sum(len(ids) for piece in work[number] for _, ids in piece))
        finally:
            for actor in actors:
                ray.kill(actor)  # pyright: ignore[reportArgumentType]
    return [
        _joined(part, [journal.done[number, k] for k in range(len(pieces))], [*baselines, *refinements])
        for number, (part, pieces) in enumerate(zip(parts, work, strict=True))
    ]


def _joined(part: Part, pieces: Sequence[PieceResult], names: Sequence[str]) -> PartResult:
    rows = {name: [row for piece in pieces for row in piece.rows[name]] for name in names}
    refused = list(dict.fromkeys(text for piece in pieces for text in piece.refused))
    if not any(rows.values()):
        raise InputError(f"{part.dataset}: no object could be evaluated; reasons: " + "; ".join(refused[:5]))
    seconds = {name: sum(piece.seconds[name] for piece in pieces) for name in names}
    known = {item: number for piece in pieces for item, number in piece.trained_on.items()}
    return PartResult(rows=rows, seconds=seconds, refused=refused, trained_on=known)


def _pull(actors: list[Any], work: Sequence[tuple[int, int, Piece]]) -> Iterator[tuple[int, int, PieceResult]]:
    """Yield (part, piece, result) as they finish; each started actor has one piece running and one waiting.

    An actor for which the cluster has no room yet gets no pieces, so the others do the work. An actor gets a new piece
    when it has finished one, so expensive objects and slow machines balance out.
    """
    waiting = iter(work)
    running: dict[Any, tuple[int, int, Any]] = {actor.ready.remote(): (UP, UP, actor) for actor in actors}

    def give(actor: Any) -> None:
        if (entry := next(waiting, None)) is not None:
            running[actor.evaluate.remote(entry[0], entry[2])] = (entry[0], entry[1], actor)

    left = len(work)
    while left:
        done, _ = ray.wait(list(running), num_returns=1)
        number, piece, actor = running.pop(done[0])
        give(actor)
        try:
            with outliving("an evaluation actor"):
                result = ray.get(done[0])
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise error.cause from None
            raise
        if number == UP:
            give(actor)
        else:
            left -= 1
            yield number, piece, result


def piece_size(scaling: EvaluationScaling) -> int:
    """Return the number of objects in a piece; a killed evaluation loses a few pieces at most."""
    return 4 * scaling.max_batch if scaling.gpu else 2


def _piece(work: Sequence[Sequence[Piece]], part: int, number: int) -> Piece:
    """Return a piece of work; an empty one if there is none with this number."""
    return work[part][number] if part < len(work) and number < len(work[part]) else []


def _pieces(work: Piece, size: int) -> list[Piece]:
    """Cut the work into pieces of about `size` objects; an image's objects stay together if they fit."""
    pieces: list[Piece] = []
    current: Piece = []
    for item, ids in work:
        for start in range(0, len(ids), size):
            current.append((item, ids[start : start + size]))
            if sum(len(part) for _, part in current) >= size:
                pieces.append(current)
                current = []
    return [*pieces, current] if current else pieces
