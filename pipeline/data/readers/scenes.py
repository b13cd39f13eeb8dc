"""Generated scenes with exact masks: the data of the demo and the tests, made from (seed, index) alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from models.records import AtLeast, AtMost, Count, Positive, Record, Rising
from pipeline.data.readers.folders import missing_split
from pipeline.data.readers.scene_drawing import Layout, draw, lay_out
from pipeline.data.sample import Item, ObjectRef, Sample

# A split is a distant range of indices, so that training scenes never recur in validation.
_FIRST_INDEX = {"": 0, "train": 0, "val": 100_000_000, "test": 200_000_000}
Side = Annotated[int, AtLeast(64), AtMost(4096)]


@dataclass(frozen=True, kw_only=True)
class Scenes(Record):
    """`num_images` scenes of `height` x `width` pixels, each made with a random number of objects from `num_objects`.

    Objects that others hide are left out, so a scene may show fewer. Splits: train (the default), val, test.
    """

    split: str = ""
    num_images: Annotated[int, AtLeast(1), AtMost(100_000_000)] = 32
    seed: Count = 0
    height: Side = 240
    width: Side = 320
    num_objects: Annotated[tuple[Positive, Annotated[int, AtMost(200)]], Rising()] = (3, 8)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.split not in _FIRST_INDEX:
            raise missing_split("scenes", self.split, filter(None, _FIRST_INDEX), "one of its three splits, or none")

    def _layout(self, index: int) -> Layout:
        rng = np.random.default_rng([self.seed, index, 0])
        return lay_out(rng, (self.height, self.width), self.num_objects)

    def items(self) -> Sequence[Item]:
        """List the scenes in order of their index; lays out each one (about a millisecond) without painting it."""
        first = _FIRST_INDEX[self.split]
        return [self._item(index) for index in range(first, first + self.num_images)]

    def _item(self, index: int) -> Item:
        item_id = f"scene-{self.seed}-{index:09d}"
        num = len(self._layout(index).families)
        object_ids = tuple(f"{item_id}/{number}" for number in range(1, num + 1))
        return Item(id=item_id, object_ids=object_ids, payload={"index": index})

    def load(self, item: Item) -> Sample:
        """Draw one scene; its objects lie on one layer, the farthest first."""
        index = item.payload["index"]
        layout = self._layout(index)
        objects = tuple(
            ObjectRef(id=f"{item.id}/{number}", layer=0, value=number, category=family)
            for number, family in enumerate(layout.families, start=1)
        )
        return Sample(
            id=item.id,
            image=draw(np.random.default_rng([self.seed, index, 1]), layout),
            instance_masks=layout.labels[None],
            objects=objects,
            ignore_mask=np.zeros((self.height, self.width), bool),
        )
