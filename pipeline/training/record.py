"""Record what a run has used: samples, how many of them show no object, photos, and the items that were refused."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from models.files import write_json
from models.storage import Storage
from pipeline.data.position import StreamPosition
from pipeline.data.rows import Batch

PROGRESS, PHOTOS = "progress.json", "photos.json"
MAX_NAMED = 1000
"""Most refused items that are listed by name; all of them are counted."""


@dataclass
class Used:
    """The samples of one worker since the last checkpoint."""

    indices: list[int] = field(default_factory=list)
    without_object: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    photos: dict[str, int] = field(default_factory=dict)
    """Fingerprints of photos, by item."""
    fingerprints: set[int] = field(default_factory=set)
    """Fingerprints of these photos, and of those pasted into them."""

    def note(self, columns: Batch) -> None:
        """Add a batch of the stream's columns (pipeline/data/rows.py)."""
        self.indices += columns["index"].tolist()
        masks = columns["object_mask"]
        self.without_object += int(np.count_nonzero(masks.reshape(len(masks), -1).max(1) == 0))
        self.refused.update(text for text in columns["refused"].tolist() if text)
        for item, text in zip(columns["item"].tolist(), columns["photos"].tolist(), strict=True):
            own, *pasted = (int(word, 16) for word in text.split())
            self.photos[item] = own
            self.fingerprints.update((own, *pasted))


@dataclass
class Record:
    """The samples of all workers since the run began, across restarts; `samples` is their number.

    `fingerprints` includes those of the checkpoint that training started from.
    """

    step: int = 0
    position: StreamPosition = field(default_factory=StreamPosition)
    samples: int = 0
    without_object: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    photos: dict[str, int] = field(default_factory=dict)
    fingerprints: set[int] = field(default_factory=set)

    def add(self, used: Used) -> None:
        """Add what a worker has used."""
        self.position = self.position.add(used.indices)
        self.samples += len(used.indices)
        self.without_object += used.without_object
        self.refused.update(used.refused)
        self.photos |= used.photos
        self.fingerprints |= used.fingerprints

    def write(self, folder: Path) -> None:
        """Write the record beside a checkpoint; the fingerprints are in the checkpoint's description."""
        progress = {
            "step": self.step,
            "position": self.position.to_json(),
            "samples": self.samples,
            "without_object": self.without_object,
            "refused": dict(self.refused.most_common(MAX_NAMED)),
        }
        write_json(folder / PROGRESS, progress)
        write_json(folder / PHOTOS, {item: f"{number:016x}" for item, number in self.photos.items()})

    @classmethod
    def read(cls, folder: Path, fingerprints: set[int]) -> "Record":
        """Read what `write` wrote; counts that an earlier version did not record are 0."""
        progress = read_progress(folder)
        return cls(
            step=int(progress["step"]),
            position=StreamPosition.from_json(progress["position"]),
            samples=progress["samples"],
            without_object=progress["without_object"],
            refused=Counter(progress["refused"]),
            photos={item: int(number, 16) for item, number in read_photos(folder).items()},
            fingerprints=fingerprints,
        )


def read_progress(folder: str | Path) -> dict[str, Any]:
    """Read the step, stream position, counts and refused items of a training checkpoint."""
    return {"samples": 0, "without_object": 0, **Storage(str(folder)).read_json(PROGRESS)}


def read_photos(folder: str | Path) -> dict[str, str]:
    """Read the hexadecimal fingerprints of the images that training has used, by item; empty for older runs."""
    storage = Storage(str(folder))
    return storage.read_json(PHOTOS) if storage.exists(PHOTOS) else {}
