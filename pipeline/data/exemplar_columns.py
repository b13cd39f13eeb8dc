"""Exemplar columns of training rows: the target is all objects of a category, and one of them is given.

docs/PAPERS.md, iCMFormer++: training. Any data set with categories works; the output of `jobs.prepare --stage mois`
contains only images with several objects of a category.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.clicks.exemplar_clicks import MAX_CLICKS, exemplar_clicks
from pipeline.data.objects import Selection
from pipeline.data.sample import ObjectRef, Sample


@dataclass(frozen=True, kw_only=True)
class ExemplarColumnsConfig:
    """Whether samples come with an exemplar."""

    enabled: bool = False
    """Add the exemplar columns to each row, with all objects of a category as the target; requires copy_paste.recipe
    none."""


def select_kind(sample: Sample, rng: np.random.Generator) -> tuple[Selection, ObjectRef | None]:
    """Choose a category as the target and one of its objects as the exemplar; an empty target and None without objects.

    Categories with two objects or more are preferred, with equal probability; objects without a category form one. The
    exemplar of a prepared sample is kept if augmentation left it in the image.
    """
    kinds: dict[str, list[ObjectRef]] = {}
    for ref in sample.objects:
        kinds.setdefault(ref.category, []).append(ref)
    if not kinds:
        return Selection((), np.zeros(sample.ignore_mask.shape, bool), ()), None
    several = [name for name in sorted(kinds) if len(kinds[name]) > 1] or sorted(kinds)
    refs = kinds[several[int(rng.integers(len(several)))]]
    given = [ref for ref in refs if sample.exemplar is not None and ref.id == sample.exemplar.object_id]
    chosen = given[0] if given else refs[int(rng.integers(len(refs)))]
    union = np.logical_or.reduce([sample.object_mask(ref) for ref in refs])
    # One mask: a user who corrects clicks anywhere on the union, not on each object.
    return Selection((union,), union, tuple(ref.id for ref in refs)), chosen


def exemplar_columns(
    sample: Sample, target: np.ndarray, chosen: ObjectRef | None, rng: np.random.Generator
) -> dict[str, Any]:
    """Make the exemplar columns of a row (pipeline/data/rows.py), with clicks drawn for what the crop shows."""
    mask = np.zeros(target.shape, bool) if chosen is None else sample.object_mask(chosen)
    others = target & ~mask
    clicks = exemplar_clicks(mask, others, rng, sample.ignore_mask)
    num = len(clicks)
    yx, valid = np.full((MAX_CLICKS, 2), -1, np.float32), np.arange(MAX_CLICKS) < num
    positive, true = np.zeros(MAX_CLICKS, bool), np.zeros(MAX_CLICKS, bool)
    yx[:num], positive[:num] = clicks.yx, clicks.positive
    true[:num] = ~clicks.positive & ~_at(others, clicks.yx)
    return {
        "exemplar_mask": mask.astype(np.uint8),
        "exemplar_clicks_yx": yx,
        "exemplar_clicks_valid": valid,
        "exemplar_clicks_positive": positive,
        "exemplar_clicks_true": true,
    }


def _at(mask: np.ndarray, yx: np.ndarray | Sequence[Any]) -> np.ndarray:
    places = np.asarray(yx).astype(int).reshape(-1, 2)
    return mask[places[:, 0], places[:, 1]]
