"""A data set in memory: coloured rectangles, some items broken on purpose."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.data.sample import BadItem, Item, Sample, pack_objects


@dataclass(frozen=True, kw_only=True)
class FakeReader:
    """`num_items` images of hw with three rectangles each; the numbered items misbehave as their field says."""

    num_items: int = 10
    hw: tuple[int, int] = (60, 80)
    bad: tuple[int, ...] = ()
    empty: tuple[int, ...] = ()
    broken: tuple[int, ...] = ()
    with_refused: tuple[int, ...] = ()

    def items(self) -> Sequence[Item]:
        return [
            Item(id=f"item{number:04d}", object_ids=("a", "b", "c"), payload={"number": number})
            for number in range(self.num_items)
        ]

    def load(self, item: Item) -> Sample:
        number = item.payload["number"]
        if number in self.bad:
            raise BadItem(item.id, "the file is cut short")
        if number in self.broken:
            raise OSError("disk on fire")
        return fake_sample(
            item.id,
            number,
            self.hw,
            empty=number in self.empty,
            refused=(f"object z of {item.id}: no pixels",) if number in self.with_refused else (),
        )


def fake_sample(
    sample_id: str, seed: int, hw: tuple[int, int] = (60, 80), *, empty: bool = False, refused: tuple[str, ...] = ()
) -> Sample:
    """Rectangles a, b (apart) and c (over a) on noise; b's value differs with the seed, so that images differ."""
    rng = np.random.default_rng(seed)
    height, width = hw
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    boxes = {
        "a": (height // 8, height // 2, width // 8, width // 2),
        "b": (height // 2 + 2, height - 4, width // 2 + 2, width - 4),
        "c": (height // 4, 3 * height // 4, width // 4, 3 * width // 4),
    }
    masks = []
    for name, (top, bottom, left, right) in boxes.items():
        mask = np.zeros(hw, bool)
        mask[top:bottom, left:right] = True
        image[mask] = rng.integers(0, 256, 3)
        masks.append((name, "", mask))
    ignore = np.zeros(hw, bool)
    ignore[:3] = True
    return pack_objects(sample_id, image, [] if empty else masks, ignore, refused)
