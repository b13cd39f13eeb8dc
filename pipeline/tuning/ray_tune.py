"""A sweep on Ray: Tune's trials ask, evaluators play, a referee decides.

`sweep` runs in the driver. Each setting is a trial of Ray Tune, a light process that only waits: it sends its objects
to the evaluators, actors that hold the network, the images and the answers that settings share (an object always goes
to the same evaluator), and asks the referee after each rung whether it goes on. The referee, one actor, keeps the
journal: what has been played is on disk before it counts, so that a sweep that was killed goes on where it was, and
decides the same, for decisions wait for all settings of a generation and depend on nothing else.
"""

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import ray
import ray.tune
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from models.errors import InputError
from models.files import refusing, write_json
from pipeline.evaluation.config import EvaluationConfig, EvaluationScaling
from pipeline.evaluation.journal import Journal, PieceResult
from pipeline.nodes import placed
from pipeline.tuning.contest import Contest, Entry
from pipeline.tuning.search import Search

WORST = 1e9
"""Told of settings that have no result."""
WAITING, ROOM = 0.0001, 0.01
"""CPUs that a trial reserves, for it waits (Tune takes no zero); and CPUs that each evaluator leaves to trials: on a
cluster evaluators may take all CPUs, and no verdict comes before all settings of a generation play."""
PATIENCE_S = 60.0
"""Time for all evaluators to come up, before a setting goes on with those that did."""
Prepare = Callable[[str, Mapping[str, Any]], str]
"""(setting's name, values) -> a checkpoint to play: training, where that is what varies. Called in the trial."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """All that a sweep needs; `pieces` of objects in the order of the race, `ends[r]` of them played after rung r."""

    checkpoint: str
    reader: Any
    config: EvaluationConfig
    scaling: EvaluationScaling
    base: Any
    """The refinement that settings change."""
    contest: Contest
    search: Search
    pieces: Sequence[Any]
    name_of: Callable[[Mapping[str, Any]], str]
    why_not: Callable[[Mapping[str, Any]], list[str]]
    settings: Any
    """All that decides the results, for the journal."""
    out: Path
    generation: int = 8
    memory_bytes: int = 2**30
    prepare: Prepare | None = None
    max_failures: int = 1


class _Evaluator:
    """Play settings in one actor; the last few checkpoints stay loaded."""

    def __init__(self, scaling: EvaluationScaling, referee: str) -> None:
        import cv2
        import torch

        cv2.setNumThreads(1)
        torch.set_num_threads(scaling.threads)
        # By name, and the rest from it: what a restarted actor is made from must not lie in a store that may be gone.
        self.scaling, self.referee = scaling, ray.get_actor(referee)
        given: Any = ray.get(self.referee.given.remote())
        self.sweep: dict[str, Any] = given
        self.benches: dict[str, Any] = {}

    def ready(self) -> None:
        """Answer, which tells that this actor is up."""

    def play(self, name: str, values: Mapping[str, Any], checkpoint: str, piece: int) -> dict[str, float]:
        """Play a piece, tell the referee, and answer with a few numbers."""
        from pipeline.tuning.settings import refinement_of

        result = self._bench(checkpoint).play(
            name, refinement_of(self.sweep["base"], values), [self.sweep["pieces"][piece]]
        )
        ray.get(self.referee.record.remote(name, piece, result))
        rows = result.rows[name]
        return {"objects": float(len(rows)), "iou": sum(row.ious[-1] for row in rows) / max(1, len(rows))}

    def _bench(self, checkpoint: str) -> Any:
        from models.checkpoint import describe
        from models.fingerprints import trained_on
        from models.predictor import Predictor
        from pipeline.tuning.bench import Bench

        if checkpoint not in self.benches:
            while len(self.benches) > 1:
                self.benches.pop(next(iter(self.benches)))
            gpu = self.scaling.gpu
            self.benches[checkpoint] = Bench(
                predictor=Predictor(
                    checkpoint,
                    device="cuda" if gpu else "cpu",
                    precision=self.scaling.precision,
                    backend=self.scaling.backend,
                ),
                reader=self.sweep["reader"],
                config=self.sweep["config"],
                max_batch=self.scaling.max_batch if gpu else 1,
                memory=self.sweep["memory"],
                trained_on=trained_on(describe(checkpoint)),
            )
        return self.benches[checkpoint]


class _Referee:
    """Keep the contest and its journal; verdicts are waited for."""

    def __init__(self, contest: Contest, path: str, settings: Any, given: dict[str, Any]) -> None:
        self.contest, self.journal, self._given = contest, Journal(Path(path), settings), given
        self.changed = asyncio.Condition()
        self.holder = ""
        self.failure: InputError | None = None

    async def given(self) -> dict[str, Any]:
        """What evaluators are made from."""
        return self._given

    async def open(self, settings: dict[str, dict[str, Any]]) -> None:
        """Begin a generation; what the journal knows of it is played already."""
        self.contest.open(settings)
        for name in self.contest.generation:
            for (part, piece), result in self.journal.done.items():
                if part == _number(name):
                    self.contest.record(name, piece, result)

    async def missing(self, name: str, rung: int) -> list[int]:
        """Pieces of a rung that a setting has not played."""
        return [p for p in range(self.contest.ends[rung]) if p not in self.contest.entries[name].results]

    async def record(self, name: str, piece: int, result: PieceResult) -> None:
        """Keep a result, on disk when this returns; once that has failed, the sweep is over."""
        try:
            self.journal.add(_number(name), piece, result)
        except InputError as error:
            self.failure = error
            raise
        async with self.changed:
            self.contest.record(name, piece, result)
            self.changed.notify_all()

    async def verdict(self, name: str, rung: int) -> bool:
        """Whether a setting goes on after a rung, once all of its generation have ended it."""
        async with self.changed:
            while (verdict := self.contest.verdict(name, rung)) is None:
                await self.changed.wait()
            self.changed.notify_all()
        return verdict

    async def leave(self, name: str, reason: str) -> None:
        """A setting has failed for good."""
        async with self.changed:
            self.contest.leave(name, reason)
            if self.holder == name:
                self.holder = ""
            self.changed.notify_all()

    async def take(self, name: str) -> None:
        """Wait for the one place where a setting may train; it may ask again after it died there."""
        async with self.changed:
            while self.holder not in ("", name):
                await self.changed.wait()
            self.holder = name

    async def give(self, name: str) -> None:
        """Leave the place."""
        async with self.changed:
            if self.holder == name:
                self.holder = ""
            self.changed.notify_all()

    async def state(self, name: str) -> tuple[Entry, tuple[float, float]]:
        """An entry as it is, and what a search is told of it."""
        entry = self.contest.entries[name]
        return entry, self.contest.estimate(entry)

    async def failed(self) -> InputError | None:
        """Why results cannot be kept, if so."""
        return self.failure

    async def finished(self) -> Contest:
        """The contest."""
        return self.contest


def _raise_failure(referee: Any) -> None:
    """Raise the InputError of results that could not be kept; one that an actor raises comes in Ray's wrapping."""
    failure: Any = ray.get(referee.failed.remote())
    if failure is not None:
        raise failure


def _number(name: str) -> int:
    """Number of a setting in the journal: by its name, so that the order of settings does not matter."""
    return int.from_bytes(blake2b(name.encode(), digest_size=6).digest())


def _trial(config: dict[str, Any], *, referee: Any, evaluators: dict[Any, Any], sweep: dict[str, Any]) -> None:
    """One setting: its rungs, until it is dropped or has played everything.

    `evaluators`: each by what is ready when it is up. Those for which a cluster has no room get nothing to play.
    """
    name, values = config["name"], config["values"]
    checkpoint = sweep["checkpoint"]
    if sweep["prepare"] is not None:
        ray.get(referee.take.remote(name))
        try:
            checkpoint = sweep["prepare"](name, values)
        finally:
            ray.get(referee.give.remote(name))
    _up(evaluators, PATIENCE_S)
    for rung in range(sweep["num_rungs"]):
        waiting = ray.get(referee.missing.remote(name, rung))
        running: list[Any] = []
        found = {"objects": 0.0, "iou": 0.0}
        # Few at a time: settings go through the objects together, so that what they share is still remembered.
        while waiting or running:
            up = _up(evaluators)
            while waiting and len(running) < 2 * len(up):
                piece = waiting.pop(0)
                running.append(up[piece % len(up)].play.remote(name, values, checkpoint, piece))
            done, running = ray.wait(running, num_returns=1)
            found = ray.get(done[0])
        goes_on = ray.get(referee.verdict.remote(name, rung))
        _, (loss, seconds) = ray.get(referee.state.remote(name))
        ray.tune.report({"loss": loss, "seconds_per_click": seconds, "rung": rung, "last_iou": found["iou"]})
        if not goes_on:
            return


def _up(evaluators: dict[Any, Any], patience_s: float = 0.0) -> list[Any]:
    """Those evaluators that are up: all, or when patience ends as many as found room, one at least."""
    refs = list(evaluators)
    up, _ = ray.wait(refs, num_returns=len(refs), timeout=patience_s)
    return [evaluators[ref] for ref in up or ray.wait(refs, num_returns=1)[0]]


class _Generations(Searcher):
    """Settings for Tune, a generation at a time: the next one is asked for when all of the last one have ended."""

    def __init__(self, sweep: Sweep, referee: Any, on_refused: Callable[[str, Mapping[str, Any], str], None]) -> None:
        super().__init__(metric="loss", mode="min")
        self.sweep, self.referee, self.on_refused = sweep, referee, on_refused
        self.asked: list[dict[str, Any]] = []
        self.queue: list[tuple[str, dict[str, Any]]] = []
        self.running: dict[str, str] = {}
        self.known: set[str] = set()
        self.refused: set[str] = set()
        self.started = False

    def suggest(self, trial_id: str) -> Any:
        """The next setting; None while a generation is not over, FINISHED too if results cannot be kept."""
        if ray.get(self.referee.failed.remote()) is not None:
            return Searcher.FINISHED
        while not self.queue and not self.running:
            if self.started:
                self._tell()
            self.asked = self.sweep.search.ask(self.sweep.generation)
            if not self.asked and self.started:
                return Searcher.FINISHED
            # The default first: everything is compared with it.
            self._open(([] if self.started else [{}]) + self.asked)
            self.started = True
        if not self.queue:
            return None
        name, values = self.queue.pop(0)
        self.running[trial_id] = name
        return {"name": name, "values": values}

    def _open(self, settings: list[dict[str, Any]]) -> None:
        fresh: dict[str, dict[str, Any]] = {}
        for values in settings:
            name = self.sweep.name_of(values)
            if name in self.known:
                continue
            self.known.add(name)
            if reasons := self.sweep.why_not(values):
                self.refused.add(name)
                self.on_refused(name, values, "; ".join(reasons))
            else:
                fresh[name] = values
        ray.get(self.referee.open.remote(fresh))
        self.queue = list(fresh.items())

    def _tell(self) -> None:
        for values in self.asked:
            name = self.sweep.name_of(values)
            # What the network refuses is as bad as can be.
            losses = (WORST, WORST) if name in self.refused else ray.get(self.referee.state.remote(name))[1]
            self.sweep.search.tell(values, [min(loss, WORST) for loss in losses])

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Count a trial out; one that failed for good must not be waited for."""
        name = self.running.pop(trial_id, None)
        if error and name is not None:
            ray.get(self.referee.leave.remote(name, "the trial failed"))

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: a sweep goes on from its journal."""
        write_json(checkpoint_path, sorted(self.known))

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class _Follow(ray.tune.Callback):
    """Tell of trials as they end."""

    def __init__(self, referee: Any, on_end: Callable[[Entry, str], None]) -> None:
        self.referee, self.on_end = referee, on_end

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A setting was dropped or has played everything."""
        self.on_end(ray.get(self.referee.state.remote(trial.config["name"]))[0], "")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A setting failed, after all tries."""
        name, error = trial.config["name"], trial.error_file and Path(trial.error_file).read_text()[-2000:]
        last = (error or "the trial died").strip().splitlines()[-1]
        ray.get(self.referee.leave.remote(name, last))
        self.on_end(ray.get(self.referee.state.remote(name))[0], last)


def sweep(
    job: Sweep,
    on_end: Callable[[Entry, str], None],
    on_refused: Callable[[str, Mapping[str, Any], str], None],
) -> Contest:
    """Race all settings that the search asks for, and return the contest.

    `on_end(entry, error)` as each ends, `on_refused(name, values, why)` for those that the network does not take.
    """
    path = job.out / "journal.jsonl"
    Journal(path, job.settings)  # refuses what the referee would, where an error reaches people
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    shared = {
        "base": job.base, "pieces": list(job.pieces), "reader": job.reader, "config": job.config,
        "memory": job.memory_bytes,
    }  # fmt: skip
    kind: Any = ray.remote(_Referee)
    name = f"referee-{uuid.uuid4().hex[:12]}"
    referee = kind.options(name=name, num_cpus=0, max_concurrency=1000, scheduling_strategy=here).remote(
        job.contest, str(path), job.settings, shared
    )
    options: dict[str, Any] = {
        "num_cpus": round(max(0.0, job.scaling.num_cpus - ROOM), 4),
        "max_restarts": -1,
        "max_task_retries": 1,
    }
    if job.scaling.gpu:
        options["num_gpus"] = job.scaling.num_gpus
    options |= placed(job.scaling.nodes)
    evaluators: list[Any] = [
        ray.remote(**options)(_Evaluator).remote(job.scaling, name) for _ in range(job.scaling.actors)
    ]
    told = {"checkpoint": job.checkpoint, "prepare": job.prepare, "num_rungs": len(job.contest.ends)}
    ready = {evaluator.ready.remote(): evaluator for evaluator in evaluators}
    trainable = ray.tune.with_parameters(_trial, referee=referee, evaluators=ready, sweep=told)
    try:
        try:
            with refusing(job.out):
                ray.tune.Tuner(
                    ray.tune.with_resources(trainable, {"CPU": WAITING}),
                    tune_config=ray.tune.TuneConfig(
                        search_alg=_Generations(job, referee, on_refused),
                        num_samples=-1,
                        max_concurrent_trials=0,
                        reuse_actors=False,
                    ),
                    run_config=ray.tune.RunConfig(
                        name="tune",
                        storage_path=str(job.out),
                        failure_config=ray.tune.FailureConfig(max_failures=job.max_failures),
                        callbacks=[_Follow(referee, on_end)],
                        verbose=0,
                    ),
                ).fit()
        except Exception:
            _raise_failure(referee)
            raise
        _raise_failure(referee)
        return ray.get(referee.finished.remote())
    finally:
        for actor in (*evaluators, referee):
            ray.kill(actor)
