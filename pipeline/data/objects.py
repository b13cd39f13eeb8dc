"""Choose the target of a sample: any of its objects with equal probability, sometimes several as one (RITM)."""

from dataclasses import dataclass

import numpy as np

from pipeline.data.sample import Sample


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The chosen objects, or none: `masks` one by one and `target` their union, all bool (h, w), and their `ids`."""

    masks: tuple[np.ndarray, ...]
    target: np.ndarray
    ids: tuple[str, ...] = ()


def select_object(sample: Sample, rng: np.random.Generator, merge_prob: float, max_merged: int) -> Selection:
    """Choose one object uniformly or, with probability `merge_prob`, 2..`max_merged` objects to segment as one.

    A sample without objects returns an empty target, so the network also learns to predict nothing.
    """
    num_objects = len(sample.objects)
    if num_objects == 0:
        return Selection((), np.zeros(sample.image.shape[:2], bool))
    num_chosen = 1
    if num_objects >= 2 and max_merged >= 2 and rng.random() < merge_prob:
        num_chosen = int(rng.integers(2, min(max_merged, num_objects) + 1))
    chosen = rng.choice(num_objects, size=num_chosen, replace=False)
    masks = tuple(sample.object_mask(sample.objects[i]) for i in chosen)
    ids = tuple(sample.objects[i].id for i in chosen)
    return Selection(masks, masks[0] if num_chosen == 1 else np.logical_or.reduce(masks), ids)


def other_objects(sample: Sample, target: np.ndarray) -> np.ndarray:
    """Return the pixels of all objects outside `target`, bool (h, w)."""
    return (sample.instance_masks > 0).any(axis=0) & ~target
