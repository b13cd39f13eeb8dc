"""All objects of one category in one image, and one of them as the exemplar (MOIS; docs/PAPERS.md, iCMFormer++)."""

from dataclasses import dataclass

import numpy as np

from pipeline.data.sample import Sample
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.tasks.game import rng_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Kind:
    """At least two objects of a category: their masks by id, bool (h, w), pixels that count; which is the exemplar."""

    category: str
    masks: dict[str, np.ndarray]
    exemplar: str

    @property
    def name(self) -> str:
        """What a row calls it; unique in a data set if the ids are."""
        what = f"category {self.category}" if self.category else "all objects"
        return f"{what} (exemplar {self.exemplar})"

    @property
    def exemplar_mask(self) -> np.ndarray:
        """The exemplar's mask."""
        return self.masks[self.exemplar]

    @property
    def union(self) -> np.ndarray:
        """All the objects."""
        return np.logical_or.reduce(list(self.masks.values()))

    @property
    def others(self) -> np.ndarray:
        """All objects but the exemplar."""
        return self.union & ~self.exemplar_mask


def find_kinds(
    sample: Sample, object_ids: tuple[str, ...], config: EvaluationConfig
) -> tuple[list[Kind], dict[str, str]]:
    """Group a sample's objects, and name those of `object_ids` that are left out: id to reason.

    The exemplar is the sample's own where it has one (a prepared MOIS data set); else it is drawn by seed, sample and
    category among the objects of at least `config.min_area` pixels. A kind
    is found whichever of its objects are in `object_ids`: a task that plays it as a whole does so for its exemplar's
    id, so that it is played once however an image's objects are spread over calls. If no object of the sample has a
    category they all count as one; an object without category among others with one is left out.
    """
    known = any(ref.category for ref in sample.objects)
    groups: dict[str, dict[str, np.ndarray]] = {}
    reasons: dict[str, str] = {}
    for ref in sample.objects:
        mask = sample.object_mask(ref) & ~sample.ignore_mask
        if known and not ref.category:
            reasons[ref.id] = "its category is not known, but those of other objects are"
        elif not mask.any():
            reasons[ref.id] = "no pixels that count"
        else:
            groups.setdefault(ref.category, {})[ref.id] = mask
    kinds: list[Kind] = []
    for category, masks in groups.items():
        fit = sorted(object_id for object_id, mask in masks.items() if mask.sum() >= config.min_area)
        if len(masks) < 2:
            reasons[next(iter(masks))] = f"the only object of category {category!r} in its image"
        elif not fit:
            reasons |= dict.fromkeys(masks, f"fewer than {config.min_area} pixels, as all of category {category!r}")
        else:
            number = int(rng_of(config.seed, sample.id, category, "exemplar").integers(len(fit)))
            given = sample.exemplar.object_id if sample.exemplar is not None else ""
            kinds.append(Kind(category=category, masks=masks, exemplar=given if given in masks else fit[number]))
    return kinds, {object_id: reasons[object_id] for object_id in object_ids if object_id in reasons}
