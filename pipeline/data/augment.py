"""Augment a sample: image and masks together, to a fixed size, and remove the objects that no longer show.

The recipes are those of RITM, which SimpleClick and CFR-ICL also train with. Albumentations provides colours and
rotations. Recipes without rotation use the resize, mirror and crop of crop.py, which resize only the pixels that the
crop shows; the order of these steps does not change the result.
"""

import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import cv2
import numpy as np

from models.errors import InputError, lookup
from models.records import Count, Factor, Record, Rising
from pipeline.data.crop import resized, resized_crop
from pipeline.data.object_crop import object_square, square_crop
from pipeline.data.sample import Sample


@dataclass(frozen=True, kw_only=True)
class AugmentConfig(Record):
    """Augmentation recipe, and when to redraw an augmentation."""

    called = "augment"

    recipe: str = "coco_lvis"
    """Augmentation recipe: coco_lvis or sbd (training), coco_lvis_val or sbd_val (no colour changes, no flips),
    focuscut (a square around one object), or plain (coco_lvis with built-in colour changes, which do not need
    albumentations)."""
    scale: Annotated[tuple[Factor, Factor], Rising()] | None = None
    """Range of the random resize before the crop; none: the recipe's range. Small crops need small images: at 0.35 to
    0.8, crops of 224 pixels show photos of 640 pixels at about the scale of the whole image resized to 224."""
    fit: bool = False
    """Measure `scale` relative to the size at which the image just fits into the crop: at 1 the whole image is shown,
    as in a network that resizes every image to a fixed frame (SAM)."""
    max_redraws: Count = 20
    """How often to redraw an augmentation that lost every object before the empty sample is used."""

    def __post_init__(self) -> None:
        """Check the fields together."""
        super().__post_init__()
        lookup("augmentation recipe", self.recipe, AUGMENT_RECIPES)
        if self.fit and AUGMENT_RECIPES[self.recipe].around:
            raise InputError(
                f"augment.fit is set, but recipe {self.recipe} crops a square around an object: leave augment.fit out"
            )


@dataclass(frozen=True, slots=True)
class _Recipe:
    """Steps of an augmentation recipe.

    `scale`: range of the resize before the crop (None: no resize). `mirror`: mirror half of the samples. `around`:
    replace the resize and the random crop by a square around one object, the only one that is kept. `turn`:
    albumentations steps before the crop (None: no rotation). `colour`: albumentations steps after the crop. `shade`:
    colour changes without albumentations.
    """

    scale: tuple[float, float] | None
    mirror: bool = False
    around: bool = False
    turn: Callable[[Any], list[Any]] | None = None
    colour: Callable[[Any], list[Any]] | None = None
    shade: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None


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


def shaded(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the image with random brightness, contrast and channel shifts, each with probability 0.75.

    The ranges are those of the recipe coco_lvis.
    """
    bright, contrast, *shifts = rng.uniform((-0.25, -0.15, -10, -10, -10), (0.25, 0.4, 10, 10, 10))
    toned, shifted = rng.random(2) < 0.75
    values = np.arange(256.0)
    if toned:
        values = values * (1 + contrast) + 255 * bright
    # Rounded and clipped after the first step too, as if the image were stored in between.
    values = np.clip(np.rint(values), 0, 255)[:, None] + np.array(shifts if shifted else [0.0, 0.0, 0.0])
    table = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return cv2.LUT(image, table[:, None, :])


AUGMENT_RECIPES: dict[str, _Recipe] = {
    "coco_lvis": _Recipe((0.75, 1.4), mirror=True, colour=_colour),
    "coco_lvis_val": _Recipe(None),
    "sbd": _Recipe((0.75, 1.25), turn=_flip_turn_shift, colour=_colour),
    "sbd_val": _Recipe((0.75, 1.25)),
    "plain": _Recipe((0.75, 1.4), mirror=True, shade=shaded),
    "focuscut": _Recipe(None, mirror=True, around=True),
}

_built = threading.local()  # one transform per thread: it stores the generator of its current call


def _transform(name: str, crop_hw: tuple[int, int]) -> Any:
    """Return the albumentations part of a recipe, built once per thread; None if it has none."""
    known = _built.__dict__.setdefault("known", {})
    if (name, crop_hw) not in known:
        os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise it looks for updates online
        import albumentations

        height, width = crop_hw
        recipe = AUGMENT_RECIPES[name]
        steps: list[Any] = []
        if recipe.turn is not None:
            steps = [
                *recipe.turn(albumentations),
                albumentations.PadIfNeeded(height, width, border_mode=cv2.BORDER_CONSTANT, fill=0, fill_mask=0),
                albumentations.RandomCrop(height, width),
            ]
        if recipe.colour is not None:
            steps += recipe.colour(albumentations)
        known[name, crop_hw] = albumentations.Compose(steps) if steps else None
    return known[name, crop_hw]


def _scales(hw: tuple[int, ...], config: AugmentConfig, crop_hw: tuple[int, int]) -> tuple[float, float] | None:
    """Return the range of the resize of an image of `hw`; None: no resize."""
    limits = config.scale or AUGMENT_RECIPES[config.recipe].scale
    if not config.fit:
        return limits
    low, high = limits or (1.0, 1.0)
    fits = min(crop / side for crop, side in zip(crop_hw, hw, strict=True))
    return low * fits, high * fits


def _draw(sample: Sample, config: AugmentConfig, crop_hw: tuple[int, int], rng: np.random.Generator) -> Sample:
    """Augment once, even if no object is left."""
    recipe = AUGMENT_RECIPES[config.recipe]
    if recipe.around and sample.objects:
        return _draw_around(sample, crop_hw, rng, mirror=recipe.mirror)
    limits = _scales(sample.image.shape[:2], config, crop_hw)
    scale = 1.0 if limits is None else float(rng.uniform(*limits))
    arrays = [sample.image, *sample.instance_masks, sample.ignore_mask.view(np.uint8)]
    if recipe.turn is None:
        arrays = resized_crop(arrays, scale, crop_hw, rng, mirror=recipe.mirror)
    else:
        arrays = resized(arrays, scale)
    if recipe.shade is not None:
        arrays[0] = recipe.shade(arrays[0], rng)
    transform = _transform(config.recipe, crop_hw)
    if transform is not None:
        # set_random_seed would give every step the same seed, and so correlate rotation, crop and colour.
        transform.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        if recipe.turn is None:
            arrays[0] = transform(image=arrays[0])["image"]
        else:
            out = transform(image=arrays[0], masks=np.stack([mask.astype(np.uint16) for mask in arrays[1:]]))
            arrays = [out["image"], *out["masks"]]
    return replace(
        sample,
        image=np.ascontiguousarray(arrays[0]),
        instance_masks=np.stack(arrays[1:-1]),
        ignore_mask=arrays[-1] > 0,
    )


def _draw_around(sample: Sample, crop_hw: tuple[int, int], rng: np.random.Generator, *, mirror: bool) -> Sample:
    """Crop around a random object; the others become background."""
    number = int(rng.integers(len(sample.objects)))
    mask = sample.object_mask(sample.objects[number])
    if not mask.any():
        return _draw_around(keep_objects(sample, object_areas(sample) > 0), crop_hw, rng, mirror=mirror)
    sample = keep_objects(sample, np.arange(len(sample.objects)) == number)
    arrays = [sample.image, *sample.instance_masks, sample.ignore_mask.view(np.uint8)]
    arrays = square_crop(arrays, object_square(mask, rng), crop_hw)
    if mirror and rng.random() < 0.5:
        arrays = [cv2.flip(array, 1) for array in arrays]
    return replace(sample, image=arrays[0], instance_masks=np.stack(arrays[1:-1]), ignore_mask=arrays[-1] > 0)


def object_areas(sample: Sample) -> np.ndarray:
    """Count the pixels of each object, int64 (objects,)."""
    if not sample.objects:
        return np.zeros(0, np.int64)
    bins = 1 + max(o.value for o in sample.objects)
    # OpenCV counts uint16 directly, faster than bincount; its float32 counts are exact up to 16 million pixels.
    counts = [cv2.calcHist([layer], [0], None, [bins], [0, bins]).ravel() for layer in sample.instance_masks]
    return np.array([counts[o.layer][o.value] for o in sample.objects], np.int64)


def whole_areas(
    sample: Sample, config: AugmentConfig, crop_hw: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Return the areas that the objects would have in crops that cut off nothing of them, float (objects,).

    Each object gets a random scale, drawn as augmentation draws it.
    """
    areas, recipe = object_areas(sample).astype(float), AUGMENT_RECIPES[config.recipe]
    if recipe.around:
        masks = (sample.object_mask(ref) for ref in sample.objects)
        sides = [object_square(mask, rng)[2] if mask.any() else 1 for mask in masks]
        return areas * crop_hw[0] * crop_hw[1] / np.square(np.array(sides, float))
    limits = _scales(sample.image.shape[:2], config, crop_hw)
    return areas if limits is None else areas * rng.uniform(*limits, len(areas)) ** 2


def keep_objects(sample: Sample, keep: np.ndarray, areas: np.ndarray | None = None) -> Sample:
    """Keep the objects where `keep` (bool, one per object) is true; the pixels of the others become background.

    With `areas` (from `object_areas`), objects without pixels are not searched for.
    """
    if keep.all():
        return sample
    layers = sample.instance_masks
    gone = [(o.layer, o.value) for i, o in enumerate(sample.objects) if not keep[i] and (areas is None or areas[i])]
    for number in {layer for layer, _ in gone}:
        table = np.arange(int(layers[number].max()) + 1, dtype=np.uint16)
        table[[value for layer, value in gone if layer == number and value < len(table)]] = 0
        layers = layers.copy() if layers is sample.instance_masks else layers
        layers[number] = table.take(layers[number])
    objects = tuple(o for o, kept in zip(sample.objects, keep, strict=True) if kept)
    return replace(sample, instance_masks=layers, objects=objects)


def without_small_pieces(sample: Sample, min_area: int) -> Sample:
    """Remove connected pieces (8 neighbours) of fewer than `min_area` pixels from every object."""
    layers = sample.instance_masks.copy()
    for ref in sample.objects:
        num, pieces, stats, _ = cv2.connectedComponentsWithStats(
            (layers[ref.layer] == ref.value).astype(np.uint8), connectivity=8
        )
        small = np.zeros(num, bool)
        small[1:] = stats[1:, cv2.CC_STAT_AREA] < min_area
        if small.any():
            layers[ref.layer][small[pieces]] = 0
    return replace(sample, instance_masks=layers)


def augment(
    sample: Sample,
    config: AugmentConfig,
    crop_hw: tuple[int, int],
    rng: np.random.Generator,
    *,
    min_object_area: int = 0,
    keep_background_prob: float = 0.0,
    min_piece_area: int = 0,
    max_object_share: float = 1.0,
) -> Sample:
    """Augment a sample to `crop_hw`, with the recipes of docs/PAPERS.md, RITM; padding is black background.

    While no object is left, the augmentation is redrawn, at most `config.max_redraws` times; with probability
    `keep_background_prob` the empty crop is kept instead. Then objects of fewer than `min_object_area` pixels are
    removed, which may leave none: this order is RITM's. EMC-Click first removes connected pieces of fewer than
    `min_piece_area` pixels, and then also objects that cover more than `max_object_share` of the crop.
    """
    lookup("augmentation recipe", config.recipe, AUGMENT_RECIPES)
    for redraw in range(config.max_redraws + 1):
        drawn = _draw(sample, config, crop_hw, rng)
        areas = object_areas(drawn)
        if areas.any() or redraw == config.max_redraws or rng.random() < keep_background_prob:
            if min_piece_area:
                drawn = without_small_pieces(drawn, min_piece_area)
                areas = object_areas(drawn)
            keep = (areas > 0) & (areas >= min_object_area) & (areas <= max_object_share * crop_hw[0] * crop_hw[1])
            return keep_objects(drawn, keep, areas)
    raise AssertionError("the last redraw always returns")
