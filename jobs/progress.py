"""Show a training run while it runs: follow the history that rank 0 appends to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from models.errors import InputError
from models.lines import Tail, lines_at
from pipeline.data.config import DataConfig
from pipeline.data.targets import most_empty
from pipeline.training.history import entries_of

LEAST_SAMPLES = 64
"""Before so many are used a share of them means little."""


@dataclass
class EmptySamples:
    """Says once of a run that too many of its samples show no object."""

    data: DataConfig
    num: float = 0.0
    empty: float = 0.0
    said: bool = False

    def count(self, num: float, empty: float) -> str | None:
        """Count further samples, and what to say of all of them if that is due."""
        self.num, self.empty = self.num + num, self.empty + empty
        return self.advice(self.num, self.empty) if self.num >= LEAST_SAMPLES else None

    def advice(self, num: float, empty: float) -> str | None:
        """What to do about `empty` of `num` samples; None if that is as it should be, or was said."""
        share, keep = empty / max(1.0, num), self.data.keep_background_prob
        if self.said or share <= most_empty(keep):
            return None
        self.said = True
        return (
            f"{share:.0%} of the samples show no object, where {keep:.0%} are meant to: objects of fewer than "
            f"{self.data.min_object_area} pixels after augmentation are no targets; lower --data.min-object-area (auto "
            "takes it from the data), or let crops show more of them by --data.augment.scale or --data.crop-hw"
        )


@contextmanager
def followed(history: str | Path, num_steps: int, empty: EmptySamples | None = None) -> Iterator[None]:
    """Print a line for each entry that is appended to `history` while the block runs, and warnings that are due."""
    stop = threading.Event()
    tail = lines_at(history).tail(skip=True)
    thread = threading.Thread(target=_follow, args=(tail, num_steps, empty, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


STARVED = 0.2
"""Share of the time that training may wait for samples before it says so."""


def starving(entry: dict[str, float], *, first: bool) -> str | None:
    """Say what to do where data keeps the device waiting; the first entry of a run waits for its workers to start."""
    if first or entry["data_wait"] <= STARVED:
        return None
    return (
        f"training waits for samples {entry['data_wait']:.0%} of the time: raise --scaling.data-actors (or "
        "--scaling.max-data-actors), prepare the data set with jobs.prepare, or leave out --data.fresh-partners"
    )


def _follow(tail: Tail, num_steps: int, empty: EmptySamples | None, stop: threading.Event) -> None:
    num_shown, warned, away = 0, False, False
    while True:
        last_round = stop.wait(0.5)
        try:
            lines, away = tail.new(), False
        except InputError as error:  # training goes on without its lines here, and so does this
            if not away:
                print(f"warning: {error}", flush=True)
            lines, away = [], True
        for entry in entries_of(lines):
            print(text(entry, num_steps), flush=True)
            advice = starving(entry, first=num_shown == 0)
            if advice and not warned:
                print(f"warning: {advice}", flush=True)
                warned = True
            num = entry.get("samples", 0.0)
            if empty is not None and (advice := empty.count(num, num * entry.get("without_object", 0.0))):
                print(f"warning: {advice}", flush=True)
            num_shown += 1
        if last_round:
            return


def text(entry: dict[str, float], num_steps: int) -> str:
    """Lay one entry out as a line."""
    left = (num_steps - entry["step"]) * entry["seconds_per_step"]
    empty = entry.get("without_object", 0.0)
    return (
        f"step {entry['step']:.0f}/{num_steps}  loss {entry['loss']:.3f}  IoU {entry['iou']:.3f}  "
        f"{f'without object {empty:.0%}  ' if empty else ''}lr {entry['lr']:.1e}  "
        f"{entry['images_per_second']:.1f} images/s  waiting for data {entry['data_wait']:.0%}  "
        f"{left // 60:.0f} min {left % 60:02.0f} s left"
    )
