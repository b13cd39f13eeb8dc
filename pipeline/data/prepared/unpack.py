"""Read the Samples of a row group of a prepared data set; a layer of masks is painted at once."""

from typing import Any

import numpy as np
import pyarrow as pa

from models.decoding import AS_IT_COMES, Decoding
from models.interaction import Clicks
from pipeline.data.images import read_image
from pipeline.data.prepared.schema import in_shards
from pipeline.data.runs import paint
from pipeline.data.sample import BadItem, Exemplar, ObjectRef, Origin, Sample


class RowGroup:
    """The rows of one row group, with its columns unpacked once."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table.combine_chunks()
        self.ids: list[str] = self.table.column("id").to_pylist()
        self.heights = self.table.column("height").to_numpy()
        self.widths = self.table.column("width").to_numpy()
        objects = _only_chunk(self.table.column("objects"))
        self.first_object = objects.offsets.to_numpy()
        # A list array may be a slice of its values: `flatten` respects that, `values` does not.
        fields = objects.flatten()
        start = int(self.first_object[0])
        self.first_object = self.first_object - start
        self.object_ids: list[str] = fields.field("id").to_pylist()
        self.categories: list[str] = fields.field("category").to_pylist()
        self.layers = fields.field("layer").to_numpy()
        self.values = fields.field("value").to_numpy()
        self.runs = _Lists(fields.field("runs"))
        self.ignore = _Lists(_only_chunk(self.table.column("ignore")))

    def __len__(self) -> int:
        return len(self.ids)

    def objects_of(self, row: int) -> range:
        """Return the numbers of a row's objects among those of the group."""
        return range(int(self.first_object[row]), int(self.first_object[row + 1]))

    def sample(self, row: int, decoding: Decoding = AS_IT_COMES) -> Sample:
        """Decode a row; raises BadItem if its image is broken or its runs do not fit its size."""
        item_id, hw = self.ids[row], (int(self.heights[row]), int(self.widths[row]))
        columns: dict[str, Any] = {
            name: self.table.column(name)[row].as_py() for name in ("image", "exemplar", "licence", "source")
        }
        try:
            image = read_image(columns["image"], expected_hw=hw, decoding=in_shards(decoding))
            masks = self._paint(row, hw)
            runs = self.ignore[row]
            ignore = paint([(runs, 1)], hw) > 0 if len(runs) else np.zeros(hw, bool)
        except ValueError as error:
            raise BadItem(item_id, str(error)) from error
        return Sample(
            id=item_id,
            image=image,
            instance_masks=masks,
            objects=tuple(
                ObjectRef(
                    id=self.object_ids[k],
                    layer=int(self.layers[k]),
                    value=int(self.values[k]),
                    category=self.categories[k],
                )
                for k in self.objects_of(row)
            ),
            ignore_mask=ignore,
            origin=Origin(licence=columns["licence"], source=columns["source"]),
            exemplar=_exemplar(columns["exemplar"]),
        )

    def _paint(self, row: int, hw: tuple[int, int]) -> np.ndarray:
        numbers = self.objects_of(row)
        if not len(numbers):
            return np.zeros((1, *hw), np.uint16)
        layers = self.layers[numbers.start : numbers.stop]
        if layers.min() < 0 or layers.max() >= len(layers):
            raise ValueError(f"an object lies on layer {layers.max()}: expected 0 to {len(layers) - 1}")
        out = np.empty((int(layers.max()) + 1, *hw), np.uint16)
        for layer in range(len(out)):
            painted = [(self.runs[k], int(self.values[k])) for k in numbers if self.layers[k] == layer]
            out[layer] = paint(painted, hw)
        return out


class _Lists:
    """A list column as NumPy views: `[i]` returns the values of row i."""

    def __init__(self, column: pa.ListArray) -> None:
        offsets = column.offsets.to_numpy()
        self.offsets = offsets - int(offsets[0])
        self.values = column.flatten().to_numpy(zero_copy_only=False)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]


def _exemplar(given: dict[str, Any] | None) -> Exemplar | None:
    if given is None:
        return None
    clicks = Clicks.of([(click["y"], click["x"], click["positive"]) for click in given["clicks"]])
    return Exemplar(object_id=given["object_id"], clicks=clicks)


def _only_chunk(column: pa.ChunkedArray) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
