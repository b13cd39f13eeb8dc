"""Groups of all objects of one category in one image, one of which is the exemplar (MOIS).

docs/PAPERS.md, iCMFormer++: protocols.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.data.sample import Sample
from pipeline.evaluation.config import EvaluationConfig
from pipeline.evaluation.tasks.game import rng_of


@dataclass(frozen=True, kw_only=True, eq=False)
class Kind:
    """At least two objects of a category: masks by id, bool (h, w), without ignored pixels, and the exemplar's id."""

    category: str
    masks: dict[str, np.ndarray]
    exemplar: str

    @property
    def name(self) -> str:
        """Name for rows; unique in a data set if the ids are."""
        what = f"category {self.category}" if self.category else "all objects"
        return f"{what} (exemplar {self.exemplar})"

    @property
    def exemplar_mask(self) -> np.ndarray:
        """The exemplar's mask."""
        return self.masks[self.exemplar]

    @property
    def union(self) -> np.ndarray:
        """The mask of all objects."""
        return np.logical_or.reduce(list(self.masks.values()))

    @property
    def others(self) -> np.ndarray:
        """The mask of all objects except the exemplar."""
        return self.union & ~self.exemplar_mask


def find_kinds(
    sample: Sample, object_ids: tuple[str, ...], config: EvaluationConfig
) -> tuple[list[Kind], dict[str, str]]:
    """Group a sample's objects by category; returns the groups, and the reason for each of `object_ids` left out.

    The exemplar is the one that the sample names (a prepared MOIS data set). Otherwise it is drawn by seed, sample and
    category among the objects of at least `config.min_area` pixels. All groups of the sample are returned, whichever
    of their objects are in `object_ids`: a task segments a group as a whole when it is called with the exemplar's id,
    so this happens once even if an image's objects are spread over several calls. If no object of the sample has a
    category, all of them form one group; if only some have one, the objects without a category are left out.
    """
    known = any(ref.category for ref in sample.objects)
    groups: dict[str, dict[str, np.ndarray]] = {}
    reasons: dict[str, str] = {}
    for ref in sample.objects:
        mask = sample.object_mask(ref) & ~sample.ignore_mask
        if known and not ref.category:
            reasons[ref.id] = "it has no category, but other objects of the image have one"
        elif not mask.any():
            reasons[ref.id] = "it has no pixels outside the ignored ones"
        else:
            groups.setdefault(ref.category, {})[ref.id] = mask
    kinds: list[Kind] = []
    for category, masks in groups.items():
        fit = sorted(object_id for object_id, mask in masks.items() if mask.sum() >= config.min_area)
        if len(masks) < 2:
            reasons[next(iter(masks))] = f"the only object of category {category!r} in its image"
        elif not fit:
            reasons |= dict.fromkeys(
                masks, f"fewer than {config.min_area} pixels, like all objects of category {category!r}"
            )
        else:
            number = int(rng_of(config.seed, sample.id, category, "exemplar").integers(len(fit)))
            given = sample.exemplar.object_id if sample.exemplar is not None else ""
            kinds.append(Kind(category=category, masks=masks, exemplar=given if given in masks else fit[number]))
    return kinds, {object_id: reasons[object_id] for object_id in object_ids if object_id in reasons}
