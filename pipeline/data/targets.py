"""Whether training has something to learn: the smallest area of a target, and the error if no sample shows any.

Objects that are too small after augmentation are not targets (`min_object_area`), and nothing is redrawn for them: if
all objects of an image are too small, its sample is empty.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.errors import InputError
from pipeline.data.augment import object_areas, whole_areas
from pipeline.data.config import AUTO, DataConfig
from pipeline.data.loading import load_or_refuse
from pipeline.data.sample import Item, Reader
from pipeline.data.sampling import Order, Purpose, rng_for
from pipeline.data.windows import augmented_by

PERCENTILE, LEAST_AREA, NUM_IMAGES = 10, 20, 64
STRETCH, TRIES = 64, 4
"""Training is refused if it begins with STRETCH empty samples; at most TRIES times as many images are opened for
this."""
MOST_EMPTY, TIMES = 0.2, 3
"""Training warns above this share of empty samples, or above TIMES the configured one if that is more."""


@dataclass(frozen=True)
class Floor:
    """The smallest area of a target in pixels, and how many objects of how many images it was computed from."""

    area: int
    num_objects: int
    num_images: int


def floor_of(reader: Reader, items: Sequence[Item], config: DataConfig) -> Floor:
    """Compute the smallest area of a target: the 10th percentile of the objects' areas at the scale of training.

    It is computed from about 64 images, which the seed chooses. An object counts as whole, at a scale that augmentation
    may draw: its area times the square of that. The result is at least 20 pixels and at most `config.max_auto_area`,
    which is also the result if no image can be used.
    """
    window = Order.of(items, NUM_IMAGES, config.seed).window(0)
    rng = rng_for(config.seed, Purpose.FLOOR)
    samples = [load_or_refuse(reader, items[number])[0] for number in sorted(window.item_numbers)]
    found = [whole_areas(sample, config.augment, config.crop_hw, rng) for sample in samples if sample is not None]
    areas = np.concatenate(found) if found else np.zeros(0)
    area = int(np.percentile(areas, PERCENTILE)) if len(areas) else config.max_auto_area
    return Floor(min(max(area, LEAST_AREA), config.max_auto_area), len(areas), len(found))


def with_floor(config: DataConfig, area: int) -> DataConfig:
    """Return the config with `min_object_area` set to `area`."""
    # The upper limit no longer matters: equal streams have equal configs.
    return replace(config, min_object_area=area, max_auto_area=DataConfig.max_auto_area)


def settled(config: DataConfig, reader: Reader, items: Sequence[Item]) -> DataConfig:
    """Return the config with `min_object_area` as a number, which is computed from the data if it is "auto"."""
    return config if config.min_object_area != AUTO else with_floor(config, floor_of(reader, items, config).area)


def check_targets(reader: Reader, items: Sequence[Item], config: DataConfig, num: int = STRETCH) -> None:
    """Raise InputError if the stream's first `num` samples are all empty; images that cannot be used do not count.

    Usually the first image ends the search. `min_object_area` must be a number already.
    """
    order = Order.of(items, config.window_size, config.seed)
    without_floor = replace(config, min_object_area=0)
    areas: list[int] = []
    seen = tried = 0
    for window in order.windows():
        for place, number in enumerate(window.item_numbers):
            if seen == num:
                raise _nothing_to_learn(num, areas, config)
            if tried == TRIES * num:
                return  # most images cannot be used, which is reported elsewhere
            tried += 1
            sample, _ = load_or_refuse(reader, items[number])
            if sample is None:
                continue
            seen += 1
            key = (config.seed, window.epoch, window.first_index + place, Purpose.AUGMENT)
            if augmented_by(sample, config, rng_for(*key)).objects:
                return
            areas += object_areas(augmented_by(sample, without_floor, rng_for(*key))).tolist()


def _nothing_to_learn(num: int, areas: Sequence[int], config: DataConfig) -> InputError:
    start = f"none of the first {num} samples shows an object: "
    if not areas:
        return InputError(
            f"{start}none is left in crops of {config.crop_hw[0]} x {config.crop_hw[1]} pixels after augmentation; "
            "change --data.crop-hw or --data.augment.scale"
        )
    return InputError(
        f"{start}after augmentation they have {min(areas)} to {max(areas)} pixels, and --data.min-object-area is "
        f"{config.min_object_area}; lower it (auto computes it from the data) or enlarge images by --data.augment.scale"
    )


def most_empty(keep_background_prob: float) -> float:
    """Return the share of empty samples above which training warns."""
    return max(MOST_EMPTY, TIMES * keep_background_prob)
