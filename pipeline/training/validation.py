"""Validate during training: new checkpoints are evaluated on held-out objects, in actors beside the training workers.

A thread of the driver does this, so training never waits; a validation that takes longer than the interval between
checkpoints skips to the newest one. Results are appended to validation.jsonl, and the checkpoint with the lowest NoC is
kept in the folder BEST.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from models import checkpoint as checkpoints
from models.errors import InputError
from models.lines import lines_at
from models.records import AtLeast, Below, Count, Positive, Record
from models.refinement import named
from models.storage import joined
from pipeline.data.sample import Reader
from pipeline.evaluation import results
from pipeline.evaluation.config import EvaluationConfig, EvaluationScaling
from pipeline.training.history import read_entries

VALIDATION, BEST = "validation.jsonl", "best"


@dataclass(frozen=True, kw_only=True)
class ValidationConfig(Record):
    """Settings of the validation: NoC on held-out images, measured at checkpoints."""

    called = "validation"

    hold_out: Annotated[float, AtLeast(0), Below(1)] = 0.0
    """Fraction of the images that training leaves out, chosen by their ids; 0: no validation."""
    objects: Positive = 32
    """Held-out objects to evaluate."""
    max_clicks: Positive = 10
    """Most clicks per object."""
    quality: float = 0.85
    """IoU to reach; the checkpoint with the lowest NoC at this IoU is the best."""
    refine: str = "standard"
    """Refinement to validate with."""
    patience: Count = 0
    """End training after this many validations in a row without a new best; 0: never."""
    actors: Positive = 1
    """Actors that validate."""
    num_cpus: float = 0.1
    """CPUs that an actor reserves; small, so that it fits beside training."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        if self.patience and not self.hold_out:
            raise InputError(
                f"validation.patience {self.patience} needs held-out images: give --validation.hold-out 0.1 as well"
            )

    def protocol(self) -> EvaluationConfig:
        """Return the evaluation protocol."""
        return EvaluationConfig(
            max_clicks=self.max_clicks,
            target_iou=self.quality,
            qualities=(self.quality,),
            at_clicks=(1, min(5, self.max_clicks)),
            boundaries=False,
            max_objects=self.objects,
        )


@dataclass
class Validator:
    """Finds new checkpoints under `storage` and evaluates them."""

    config: ValidationConfig
    reader: Reader
    storage: str | Path
    newest: Callable[[], tuple[str | Path, int] | None]
    """Returns the newest persisted checkpoint and its step."""
    log: Callable[[int, dict[str, float]], None]
    """Receives a step and its metrics."""
    say: Callable[[str], None]
    """Receives a line to print."""
    end: Callable[[], None]
    """Requests that training ends."""
    seen: int = field(init=False, default=-1)

    def __post_init__(self) -> None:
        self.lines = lines_at(joined(self.storage, VALIDATION))
        self.results = read_entries(str(joined(self.storage, VALIDATION)))
        self.seen = max((int(entry["step"]) for entry in self.results), default=-1)

    def look(self) -> dict[str, float] | None:
        """Evaluate the newest checkpoint if it is new; returns and records its metrics."""
        found = self.newest()
        if found is None or found[1] <= self.seen:
            return None
        folder, step = found
        copy = joined(self.storage, "validating")
        try:
            checkpoints.copy(folder, copy)
        except FileNotFoundError:  # training keeps only the last ones: this one is gone and a newer one exists
            return None
        self.seen = step
        entry = {"step": step, **self._play(copy)}
        self._note(entry, copy)
        return entry

    def _play(self, checkpoint: str) -> dict[str, float]:
        from pipeline.evaluation.ray_evaluate import Part, evaluate_on_ray

        protocol = self.config.protocol()
        (found,) = evaluate_on_ray(
            checkpoint=checkpoint,
            refinements={self.config.refine: named(self.config.refine)},
            parts=[Part(dataset="held out", reader=self.reader, config=protocol)],
            scaling=EvaluationScaling(actors=self.config.actors, num_cpus=self.config.num_cpus),
        )
        summary = results.summarize(found.rows[self.config.refine], protocol, found.seconds[self.config.refine])
        (noc,) = summary["noc"].values()
        return {"noc": float(noc), **{f"iou_at_{k}": float(iou) for k, iou in summary["iou_at"].items()}}

    def _note(self, entry: dict[str, float], checkpoint: str) -> None:
        better = all(entry["noc"] < earlier["noc"] for earlier in self.results)
        if better:
            checkpoints.copy(checkpoint, joined(self.storage, BEST))
        self.results.append(entry)
        self.lines.append(entry)
        self.lines.flush()
        self.log(int(entry["step"]), {f"validation_{name}": value for name, value in entry.items() if name != "step"})
        self.say(
            f"step {entry['step']}  validation: NoC@{round(100 * self.config.quality)} {entry['noc']:.2f}"
            f"{'  (best so far)' if better else ''}  IoU&1 {entry['iou_at_1']:.3f}"
        )
        best_at = min(range(len(self.results)), key=lambda k: (self.results[k]["noc"], k))
        if self.config.patience and len(self.results) - 1 - best_at >= self.config.patience:
            self.end()

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """Validate while the block runs, and once more after it has succeeded.

        An error of a validation while the block runs is reported and does not end the block.
        """
        stop = threading.Event()
        thread = threading.Thread(target=self._watch, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        self.look()

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(1.0):
            try:
                self.look()
            except Exception as error:  # report it: a failed validation must not end training
                self.say(f"validation failed: {type(error).__name__}: {error}")
