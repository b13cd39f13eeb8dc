"""Multi-object samples with exemplars, made from any data set with categories.

docs/PAPERS.md, iCMFormer++: COCO-MOIS. A triplet is an image, all its objects of one category, and one of them as the
finished exemplar, with clicks that could have made it. The choice of exemplar and clicks follows from the seed and the
ids alone.
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from models.records import AtLeast, Count, Record
from pipeline.clicks.exemplar_clicks import exemplar_clicks
from pipeline.data.augment import keep_objects
from pipeline.data.sample import Exemplar, ObjectRef, Sample

MIN_OBJECTS = 2


@dataclass(frozen=True, kw_only=True)
class MoisConfig(Record):
    """Which objects form triplets."""

    called = "mois"

    seed: Count = 0
    """Random seed of the choice of exemplars and clicks."""
    min_object_area: Count = 0
    """Objects of fewer pixels are left out of triplets, and their pixels are ignored. The default, 0, is ours: the
    paper gives none."""
    max_objects: Annotated[int, AtLeast(MIN_OBJECTS)] | None = None
    """Categories with more objects in an image are left out; none: no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoisCounts:
    """Counts of triplets and of what was left out; the counts of parts add up to those of the whole."""

    images: int = 0
    """Images with at least one triplet."""
    triplets: int = 0
    objects: int = 0
    """Objects in all triplets."""
    small_objects: int = 0
    """Objects left out because too few of their pixels count."""
    lone_objects: int = 0
    """Objects left out because no other of their category is left."""
    nameless_objects: int = 0
    """Objects left out because they have no category."""
    crowded: int = 0
    """Categories of an image left out because they have too many objects."""

    def __add__(self, other: "MoisCounts") -> "MoisCounts":
        return MoisCounts(**{name: getattr(self, name) + getattr(other, name) for name in self.__slots__})


def make_triplets(sample: Sample, config: MoisConfig) -> tuple[list[Sample], MoisCounts]:
    """Make a sample of each category with two objects or more, in the order of their names; count what was left out.

    Its id is "<sample id>/<category>", its objects are those of the category, and its exemplar is one of them, drawn
    uniformly. Objects without a category are left out.
    """
    groups: dict[str, list[ObjectRef]] = {}
    for ref in sample.objects:
        groups.setdefault(ref.category, []).append(ref)
    counts = MoisCounts(nameless_objects=len(groups.pop("", [])))
    made: list[Sample] = []
    for category in sorted(groups):
        triplet, more = _triplet(sample, category, groups[category], config)
        counts += more
        made += [] if triplet is None else [triplet]
    return made, counts + MoisCounts(images=int(bool(made)))


def _triplet(
    sample: Sample, category: str, refs: list[ObjectRef], config: MoisConfig
) -> tuple[Sample | None, MoisCounts]:
    least = max(1, config.min_object_area)
    masks = {ref.id: sample.object_mask(ref) for ref in refs}
    large = [i for i, mask in masks.items() if np.count_nonzero(mask & ~sample.ignore_mask) >= least]
    small = len(refs) - len(large)
    if len(large) < MIN_OBJECTS:
        return None, MoisCounts(small_objects=small, lone_objects=len(large))
    if config.max_objects is not None and len(large) > config.max_objects:
        return None, MoisCounts(small_objects=small, crowded=1)
    rng = _rng(config.seed, sample.id, category)
    chosen = sorted(large)[int(rng.integers(len(large)))]
    union = np.logical_or.reduce([masks[object_id] for object_id in large])
    ignore_mask = sample.ignore_mask
    for object_id in masks.keys() - set(large):
        ignore_mask = ignore_mask | (masks[object_id] & ~union)
    clicks = exemplar_clicks(masks[chosen], union & ~masks[chosen], rng, ignore_mask)
    kept = keep_objects(sample, np.array([ref.id in large for ref in sample.objects]))
    triplet = replace(
        kept,
        id=f"{sample.id}/{category}",
        ignore_mask=ignore_mask,
        exemplar=Exemplar(object_id=chosen, clicks=clicks),
    )
    return triplet, MoisCounts(triplets=1, objects=len(large), small_objects=small)


def _rng(seed: int, *names: str) -> np.random.Generator:
    """Return the generator of a seed and some names, the same on every machine and in every process."""
    text = "\0".join((str(seed), *names)).encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text).digest()))
