"""Parts of a data set made by a pool of actors on Ray Data: `run_parts` runs in the driver, `_Parts` in the actors."""

import copy
from collections.abc import Iterator, Sequence

import numpy as np
import ray
import ray.data

from models.errors import InputError, find_input_error
from pipeline.data.prepared.parts import PartMaker, write_part
from pipeline.data.prepared.storage import Storage
from pipeline.data.ray_data import actor_pool


class _Parts:
    """Make parts in one actor."""

    def __init__(self, maker: PartMaker, uri: str, rows_per_group: int) -> None:
        import cv2

        cv2.setNumThreads(1)  # the pool is the parallelism
        self.maker, self.storage, self.rows_per_group = maker, Storage(uri), rows_per_group

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        shards = [write_part(self.maker, self.storage, int(part), self.rows_per_group) for part in batch["part"]]
        columns = {
            "rows": [shard.num_rows for shard in shards],
            "objects": [shard.num_objects for shard in shards],
            "refused": [len(shard.refused) for shard in shards],
        }
        return {name: np.array(column, np.int64) for name, column in columns.items()}


def run_parts(
    maker: PartMaker,
    storage: Storage,
    parts: Sequence[int],
    *,
    rows_per_group: int,
    actors: int | tuple[int, int],
    num_cpus: float,
) -> Iterator[dict[str, int]]:
    """Make parts on all actors and yield {"rows", "objects", "refused"} of each as it is written.

    A part whose actor dies is made again. Raises InputError for what cannot be mended by trying again: a full disk, a
    bucket that is gone; the parts with a record stay.
    """
    if not parts:
        return
    context = copy.deepcopy(ray.data.DataContext.get_current())
    with ray.data.DataContext.current(context):
        # From memory: a source with a read task could wait for ever for a CPU that the actors hold.
        numbers = ray.data.from_items([{"part": int(part)} for part in parts], override_num_blocks=len(parts))
        made = numbers.map_batches(
            _Parts,
            fn_constructor_args=(maker, storage.uri, rows_per_group),
            batch_size=1,
            batch_format="numpy",
            compute=actor_pool(actors),
            num_cpus=num_cpus,
        )
        try:
            for row in made.iter_rows():
                yield {name: int(value) for name, value in row.items()}
        except Exception as error:
            meant = find_input_error(error)
            if meant is None:
                raise
            raise InputError(str(meant)) from error
