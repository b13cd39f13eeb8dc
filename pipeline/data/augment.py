"""Augmentation of a sample: image and masks together, to a fixed size, with the rules of what remains of its objects.

The recipes are those of RITM, which SimpleClick and CFR-ICL train with too. Albumentations does the work; the resize
in front is ours, because theirs cuts sizes off where RITM rounds them.
"""

import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from models.errors import InputError, lookup
from pipeline.data.sample import Sample

MAX_VALUE = np.iinfo(np.uint16).max


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Which augmentation, and when to try again."""

    recipe: str = "coco_lvis"
    """coco_lvis, sbd (training), coco_lvis_val, sbd_val (no colour, no flip)."""
    scale: tuple[float, float] | None = None
    """Range of the random resize in front; none: the recipe's own. Small crops want small images: a crop of 224
    pixels sees what the whole image will look like at 224 when photos of 640 are scaled by 0.35 to 0.8."""
    max_redraws: int = 20
    """How often an augmentation that lost every object is drawn anew before the empty sample is used."""

    def __post_init__(self) -> None:
        """Refuse names and numbers that mean nothing."""
        lookup("augmentation recipe", self.recipe, AUGMENT_RECIPES)
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"augment.scale is {self.scale}: expected 0 < smallest <= largest")
        if self.max_redraws < 0:
            raise InputError(f"augment.max_redraws is {self.max_redraws}: expected a whole number >= 0")


@dataclass(frozen=True, slots=True)
class _Recipe:
    """Range of the resize in front (None: no resize), and the albumentations steps around pad and crop."""

    scale: tuple[float, float] | None
    before: Callable[[Any], list[Any]]
    after: Callable[[Any], list[Any]]


def _no_steps(lib: Any) -> list[Any]:
    return []


def _flip(lib: Any) -> list[Any]:
    return [lib.HorizontalFlip(p=0.5)]


def _flip_turn_shift(lib: Any) -> list[Any]:
    both = lib.Sequential([lib.HorizontalFlip(p=1), lib.VerticalFlip(p=1)], p=1)
    return [
        lib.OneOf([lib.HorizontalFlip(p=1), lib.VerticalFlip(p=1), both], p=0.5),
        lib.RandomRotate90(p=0.5),
        lib.Affine(translate_percent=(-0.03, 0.03), rotate=(-3, 3), border_mode=cv2.BORDER_CONSTANT, p=0.75),
    ]


def _colour(lib: Any) -> list[Any]:
    return [
        lib.RandomBrightnessContrast(brightness_limit=(-0.25, 0.25), contrast_limit=(-0.15, 0.4), p=0.75),
        lib.RGBShift(r_shift_limit=(-10, 10), g_shift_limit=(-10, 10), b_shift_limit=(-10, 10), p=0.75),
    ]


AUGMENT_RECIPES: dict[str, _Recipe] = {
    "coco_lvis": _Recipe((0.75, 1.4), _flip, _colour),
    "coco_lvis_val": _Recipe(None, _no_steps, _no_steps),
    "sbd": _Recipe((0.75, 1.25), _flip_turn_shift, _colour),
    "sbd_val": _Recipe((0.75, 1.25), _no_steps, _no_steps),
}

_built = threading.local()  # a transform holds the generator of its current call: one per thread


def _transform(name: str, crop_hw: tuple[int, int]) -> Any:
    """Build the albumentations part of a recipe, once per thread."""
    known = _built.__dict__.setdefault("known", {})
    if (name, crop_hw) not in known:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it looks for a newer version on the net otherwise
        import albumentations

        height, width = crop_hw
        recipe = AUGMENT_RECIPES[name]
        pad_and_crop = [
            albumentations.PadIfNeeded(height, width, border_mode=cv2.BORDER_CONSTANT, fill=0, fill_mask=0),
            albumentations.RandomCrop(height, width),
        ]
        known[name, crop_hw] = albumentations.Compose(
            [*recipe.before(albumentations), *pad_and_crop, *recipe.after(albumentations)]
        )
    return known[name, crop_hw]


def _resize(image: np.ndarray, masks: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    height, width = image.shape[:2]
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return (
        cv2.resize(image, size, interpolation=cv2.INTER_LINEAR),
        np.stack([cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in masks]),
    )


def _draw(sample: Sample, config: AugmentConfig, crop_hw: tuple[int, int], rng: np.random.Generator) -> Sample:
    """Augment once, whatever remains of the objects."""
    image = sample.image
    masks = np.concatenate([sample.instance_masks, sample.ignore_mask[None].astype(np.uint16)])  # (layers + 1, h, w)
    scale = config.scale or AUGMENT_RECIPES[config.recipe].scale
    if scale is not None:
        image, masks = _resize(image, masks, rng.uniform(*scale))
    transform = _transform(config.recipe, crop_hw)
    # Not set_random_seed: that gives every step the same seed, and scale, flip, crop and colour would move together.
    transform.set_random_state(rng, random.Random(int(rng.integers(2**63))))
    out = transform(image=image, masks=masks)
    return replace(
        sample,
        image=np.ascontiguousarray(out["image"]),
        instance_masks=out["masks"][:-1],
        ignore_mask=out["masks"][-1] > 0,
    )


def object_areas(sample: Sample) -> np.ndarray:
    """Count the pixels of each object, int64 (objects,)."""
    if not sample.objects:
        return np.zeros(0, np.int64)
    bins = 1 + max(o.value for o in sample.objects)
    # OpenCV counts uint16 as they are, faster than bincount; its float32 is exact for 16 million pixels.
    counts = [cv2.calcHist([layer], [0], None, [bins], [0, bins]).ravel() for layer in sample.instance_masks]
    return np.array([counts[o.layer][o.value] for o in sample.objects], np.int64)


def keep_objects(sample: Sample, keep: np.ndarray) -> Sample:
    """Keep the objects where `keep` (bool, one per object) is true; the pixels of the others become background."""
    if keep.all():
        return sample
    layers = sample.instance_masks.copy()
    for number, layer in enumerate(layers):
        gone = [o.value for o, kept in zip(sample.objects, keep, strict=True) if not kept and o.layer == number]
        if gone:
            table = np.arange(MAX_VALUE + 1, dtype=np.uint16)
            table[gone] = 0
            layers[number] = table[layer]
    objects = tuple(o for o, kept in zip(sample.objects, keep, strict=True) if kept)
    return replace(sample, instance_masks=layers, objects=objects)


def augment(
    sample: Sample,
    config: AugmentConfig,
    crop_hw: tuple[int, int],
    rng: np.random.Generator,
    *,
    min_object_area: int = 0,
    keep_background_prob: float = 0.0,
) -> Sample:
    """Augment a sample to `crop_hw`; what its objects lost is lost (RITM, section 3.1).

    While no object is left the augmentation is drawn anew, except with `keep_background_prob`. Then objects of fewer
    than `min_object_area` pixels are taken away, which may leave none too: RITM does it in this order. Padding is
    black background.
    """
    lookup("augmentation recipe", config.recipe, AUGMENT_RECIPES)
    for redraw in range(config.max_redraws + 1):
        drawn = _draw(sample, config, crop_hw, rng)
        areas = object_areas(drawn)
        if areas.any() or redraw == config.max_redraws or rng.random() < keep_background_prob:
            return keep_objects(drawn, (areas > 0) & (areas >= min_object_area))
    raise AssertionError("the last redraw always returns")
