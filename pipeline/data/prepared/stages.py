"""Stages between reading and storing a sample; a stage is a value that is sent to the workers."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.data.mois import MoisConfig, make_triplets
from pipeline.data.sample import Sample


class Stage(Protocol):
    """Makes the samples to store from one that was read, and counts what it did; equal for equal samples."""

    def __call__(self, sample: Sample) -> tuple[Sequence[Sample], Mapping[str, int]]:
        """Return the samples, none if there is nothing to store, and counts by name, which the manifest sums up."""
        ...


@dataclass(frozen=True)
class AsRead:
    """Store each sample as it was read."""

    def __call__(self, sample: Sample) -> tuple[Sequence[Sample], Mapping[str, int]]:
        """Return the sample."""
        return (sample,), {}


@dataclass(frozen=True)
class Mois:
    """Store a sample with an exemplar for each category of several objects (docs/PAPERS.md, iCMFormer++: COCO-MOIS)."""

    config: MoisConfig = field(default_factory=MoisConfig)

    def __call__(self, sample: Sample) -> tuple[Sequence[Sample], Mapping[str, int]]:
        """Return the triplets of a sample."""
        samples, counts = make_triplets(sample, self.config)
        return samples, {f"mois_{name}": count for name, count in dataclasses.asdict(counts).items()}


STAGES: dict[str, Callable[[MoisConfig], Stage]] = {"as_read": lambda mois: AsRead(), "mois": Mois}
