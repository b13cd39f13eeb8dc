"""Print the progress of a training run by following the history file that rank 0 appends to."""

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
"""Samples before which the share of empty ones is too uncertain to warn about."""


@dataclass
class EmptySamples:
    """Counts samples without an object, and warns once if there are too many."""

    data: DataConfig
    num: float = 0.0
    empty: float = 0.0
    said: bool = False

    def count(self, num: float, empty: float) -> str | None:
        """Add samples to the counts; return a warning if one is due, else None."""
        self.num, self.empty = self.num + num, self.empty + empty
        return self.advice(self.num, self.empty) if self.num >= LEAST_SAMPLES else None

    def advice(self, num: float, empty: float) -> str | None:
        """Return advice about `empty` of `num` samples; None if the share is as expected, or after the first time."""
        share, keep = empty / max(1.0, num), self.data.keep_background_prob
        if self.said or share <= most_empty(keep):
            return None
        self.said = True
        return (
            f"{share:.0%} of the samples show no object, and {keep:.0%} are expected: objects of fewer than "
            f"{self.data.min_object_area} pixels after augmentation are not used as targets. Lower "
            "--data.min-object-area (auto derives it from the data), or let crops show more of the objects with "
            "--data.augment.scale or --data.crop-hw"
        )


@contextmanager
def followed(history: str | Path, num_steps: int, empty: EmptySamples | None = None) -> Iterator[None]:
    """Print a line for each entry appended to `history` while the block runs, and warnings when they are due."""
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
"""Share of the time that training may wait for samples before a warning is printed."""


def starving(entry: dict[str, float], *, first: bool) -> str | None:
    """Return advice if the device waits too long for data, else None. The first entry includes the workers' start."""
    if first or entry["data_wait"] <= STARVED:
        return None
    return (
        f"training waits for samples {entry['data_wait']:.0%} of the time: raise --scaling.data-actors (or "
        "--scaling.max-data-actors), prepare the data set with jobs.prepare, or turn off --data.fresh-partners"
    )


def _follow(tail: Tail, num_steps: int, empty: EmptySamples | None, stop: threading.Event) -> None:
    num_shown, warned, away = 0, False, False
    while True:
        last_round = stop.wait(0.5)
        try:
            lines, away = tail.new(), False
        except InputError as error:  # the history cannot be read now: training continues, so keep trying
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
    """Format an entry of the history as a line."""
    left = (num_steps - entry["step"]) * entry["seconds_per_step"]
    empty = entry.get("without_object", 0.0)
    return (
        f"step {entry['step']:.0f}/{num_steps}  loss {entry['loss']:.3f}  IoU {entry['iou']:.3f}  "
        f"{f'without object {empty:.0%}  ' if empty else ''}lr {entry['lr']:.1e}  "
        f"{entry['images_per_second']:.1f} images/s  waiting for data {entry['data_wait']:.0%}  "
        f"{left // 60:.0f} min {left % 60:02.0f} s left"
    )
