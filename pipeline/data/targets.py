"""Whether training has something to learn: how small an object may be, and what to say where no sample shows any.

Objects that are too small after augmentation are no targets (`min_object_area`), and nothing is drawn again for them:
where all of an image's are, its sample is empty.
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
"""So many empty samples in a row from the start, and training is refused; times as many images are opened for that."""
MOST_EMPTY, TIMES = 0.2, 3
"""Share of empty samples that is too much, and times the configured one."""


@dataclass(frozen=True)
class Floor:
    """The least area of a target in pixels, and how many objects of how many images it was taken from."""

    area: int
    num_objects: int
    num_images: int


def floor_of(reader: Reader, items: Sequence[Item], config: DataConfig) -> Floor:
    """Take the least area of a target from the data: the 10th percentile of its objects' as training scales them.

    Looks at some 64 images, which the seed chooses. An object counts as whole, at a scale that its augmentation may
    draw: area times the square of it. The floor is at least 20 pixels and at most `config.max_auto_area`, which it
    also is where no image can be used.
    """
    window = Order.of(items, NUM_IMAGES, config.seed).window(0)
    rng = rng_for(config.seed, Purpose.FLOOR)
    samples = [load_or_refuse(reader, items[number])[0] for number in sorted(window.item_numbers)]
    found = [whole_areas(sample, config.augment, config.crop_hw, rng) for sample in samples if sample is not None]
    areas = np.concatenate(found) if found else np.zeros(0)
    area = int(np.percentile(areas, PERCENTILE)) if len(areas) else config.max_auto_area
    return Floor(min(max(area, LEAST_AREA), config.max_auto_area), len(areas), len(found))


def with_floor(config: DataConfig, area: int) -> DataConfig:
    """Settle an "auto" floor."""
    # What bounded it has no meaning any more: configs that say the same are the same.
    return replace(config, min_object_area=area, max_auto_area=DataConfig.max_auto_area)


def settled(config: DataConfig, reader: Reader, items: Sequence[Item]) -> DataConfig:
    """Settle the floor by the data, if it is "auto"."""
    return config if config.min_object_area != AUTO else with_floor(config, floor_of(reader, items, config).area)


def check_targets(reader: Reader, items: Sequence[Item], config: DataConfig, num: int = STRETCH) -> None:
    """Raise InputError if all of the stream's first `num` samples are empty; images that cannot be used are no samples.

    As a rule the first image ends the search. The floor is settled.
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
                return  # there are other things wrong here, and others say so
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
            f"{start}none is left in crops of {config.crop_hw[0]} x {config.crop_hw[1]} pixels after augmentation: "
            "give another --data.crop-hw or --data.augment.scale"
        )
    return InputError(
        f"{start}after augmentation they have {min(areas)} to {max(areas)} pixels, and --data.min-object-area is "
        f"{config.min_object_area}: lower it (auto takes it from the data), or scale images up by --data.augment.scale"
    )


def most_empty(keep_background_prob: float) -> float:
    """Share of empty samples from which on training should say so."""
    return max(MOST_EMPTY, TIMES * keep_background_prob)
