"""Run a sweep on Ray: Tune's trials send objects to evaluators, and a referee decides which settings continue.

`sweep` runs in the driver. Each setting is a trial of Ray Tune, a light process that mostly waits. It sends its objects
to the evaluators and queries the referee after each rung. Evaluators are actors that hold the network, the images and
the cache of answers; an object always goes to the same evaluator. The referee, one actor, keeps the journal. Results
are on disk before they count, and a decision depends only on the results of the whole generation, so a sweep that was
killed resumes and decides the same.
"""

import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.tune
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from models.files import refusing, write_json
from models.storage import Storage, is_address, joined, without_key
from pipeline.evaluation.config import EvaluationConfig, EvaluationScaling
from pipeline.evaluation.journal import Journal
from pipeline.nodes import placed
from pipeline.ray_refusals import GONE
from pipeline.tuning.contest import Contest, Entry
from pipeline.tuning.ray_trial import trial
from pipeline.tuning.referee import Referee
from pipeline.tuning.search import Search

WORST = 1e9
"""Loss reported to the search for settings without a result."""
WAITING, ROOM = 0.0001, 0.01
"""CPUs that a trial reserves (it mostly waits, but Tune does not accept zero), and CPUs that each evaluator leaves to
trials. Evaluators may take all CPUs of a cluster, but no verdict is possible before all trials of a generation run."""
Prepare = Callable[[str, Mapping[str, Any]], str]
"""(setting's name, values) -> checkpoint to play, which it trains if the setting varies training. Runs in the trial."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """All that a sweep needs; `pieces` are pieces of objects in the order of the race."""

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
    """Everything that decides the results, for the journal."""
    out: str
    """A path that all nodes share, or an address."""
    generation: int = 8
    memory_bytes: int = 2**30
    prepare: Prepare | None = None
    max_failures: int = 1


class _Evaluator:
    """Play settings in one actor; the last two checkpoints stay loaded."""

    def __init__(self, scaling: EvaluationScaling, referee: str) -> None:
        import cv2
        import torch

        cv2.setNumThreads(1)
        torch.set_num_threads(scaling.threads)
        # Fetched by the referee's name: the object store may have lost arguments by the time an actor restarts.
        self.scaling, self.referee = scaling, ray.get_actor(referee)
        given: Any = ray.get(self.referee.given.remote())
        self.sweep: dict[str, Any] = given
        self.benches: dict[str, Any] = {}

    def ready(self) -> None:
        """Return, which shows that this actor has started."""

    def play(self, name: str, values: Mapping[str, Any], checkpoint: str, piece: int) -> dict[str, float]:
        """Play a piece, send the result to the referee, and return a few numbers."""
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


def _less(num_cpus: float) -> float:
    """Return the CPUs of an evaluator, less the room for trials."""
    return round(max(0.0, num_cpus - ROOM), 4)


def _raise_failure(referee: Any) -> None:
    """Raise the referee's InputError if results could not be stored; raised in the actor, Ray would wrap it."""
    failure: Any = ray.get(referee.failed.remote())
    if failure is not None:
        raise failure


class _Generations(Searcher):
    """Gives settings to Tune by generations: the next one starts when all settings of the last one have ended."""

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
        """Return the next setting; None while a generation runs, FINISHED at the end or if results cannot be stored."""
        if ray.get(self.referee.failed.remote()) is not None:
            return Searcher.FINISHED
        while not self.queue and not self.running:
            if self.started:
                self._tell()
            self.asked = self.sweep.search.ask(self.sweep.generation)
            if not self.asked and self.started:
                return Searcher.FINISHED
            # The default comes first, because everything is compared with it.
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
            # A setting that the network cannot use gets the worst loss.
            losses = (WORST, WORST) if name in self.refused else ray.get(self.referee.losses.remote(name))
            self.sweep.search.tell(values, [min(loss, WORST) for loss in losses])

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Remove a trial from those running; if it failed for good, the others stop waiting for it."""
        name = self.running.pop(trial_id, None)
        if error and name is not None:
            ray.get(self.referee.leave.remote(name, "the trial failed"))

    def save(self, checkpoint_path: str) -> None:
        """Write the known names only: a sweep resumes from its journal."""
        write_json(checkpoint_path, sorted(self.known))

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: a sweep resumes from its journal."""


class _Follow(ray.tune.Callback):
    """Calls `on_end` for trials as they end."""

    def __init__(self, referee: Any, on_end: Callable[[Entry, str], None]) -> None:
        self.referee, self.on_end = referee, on_end

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Report a setting that was dropped or has played everything."""
        self.on_end(ray.get(self.referee.state.remote(trial.config["name"])), "")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Report a setting that failed after all retries."""
        name, error = trial.config["name"], trial.error_file and Path(trial.error_file).read_text()[-2000:]
        last = (error or "the trial died").strip().splitlines()[-1]
        ray.get(self.referee.leave.remote(name, last))
        self.on_end(ray.get(self.referee.state.remote(name)), last)


def sweep(
    job: Sweep,
    on_end: Callable[[Entry, str], None],
    on_refused: Callable[[str, Mapping[str, Any], str], None],
) -> Contest:
    """Race all settings that the search proposes, and return the contest.

    `on_end(entry, error)` is called as each setting ends, `on_refused(name, values, why)` for settings that the network
    cannot use.
    """
    path = joined(job.out, "journal.jsonl")
    Journal(path, job.settings)  # checks the settings here too, because an error in the referee would be wrapped
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    shared = {
        "base": job.base, "pieces": list(job.pieces), "reader": job.reader, "config": job.config,
        "memory": job.memory_bytes,
    }  # fmt: skip
    kind: Any = ray.remote(Referee)
    name = f"referee-{uuid.uuid4().hex[:12]}"
    referee = kind.options(name=name, num_cpus=0, max_concurrency=1000, scheduling_strategy=here).remote(
        job.contest, path, job.settings, shared
    )
    options: dict[str, Any] = {"num_cpus": _less(job.scaling.num_cpus), "max_restarts": -1, "max_task_retries": 1}
    if job.scaling.gpu:
        options["num_gpus"] = job.scaling.num_gpus
    options |= placed(job.scaling.nodes)
    evaluators: list[Any] = [
        ray.remote(**options)(_Evaluator).remote(job.scaling, name) for _ in range(job.scaling.actors)
    ]
    params = {"checkpoint": job.checkpoint, "prepare": job.prepare, "num_rungs": len(job.contest.ends)}
    ready = {evaluator.ready.remote(): evaluator for evaluator in evaluators}
    trainable = ray.tune.with_parameters(trial, referee=referee, evaluators=ready, sweep=params)
    # Ray checks by itself whether all nodes share a path; addresses may have settings that it does not know.
    filesystem, folder = Storage(job.out).arrow if is_address(job.out) else (None, job.out)
    try:
        try:
            with refusing(without_key(job.out)):
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
                        storage_path=folder,
                        storage_filesystem=filesystem,
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
        with suppress(*GONE):
            ray.get(referee.flush.remote())
        for actor in (*evaluators, referee):
            ray.kill(actor)
