"""Make the parts of a data set with actors on Ray Data: `run_parts` runs in the driver, `_Parts` in the actors."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import ray
import ray.data

from models.errors import InputError
from models.storage import Storage
from pipeline.data.prepared.parts import PartMaker, write_part
from pipeline.data.ray_data import RESTARTS, actor_pool
from pipeline.ray_refusals import outliving


class _Parts:
    """Make parts in one actor."""

    def __init__(self, maker: PartMaker, uri: str, rows_per_group: int) -> None:
        import cv2

        cv2.setNumThreads(1)  # the pool is the parallelism
        self.maker, self.storage, self.rows_per_group = maker, Storage(uri), rows_per_group

    def __call__(self, batch: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        for part in batch["part"].tolist():
            made, error = {"rows": 0, "objects": 0, "refused": 0}, ""
            try:
                shard = write_part(self.maker, self.storage, part, self.rows_per_group)
                made = {"rows": shard.num_rows, "objects": shard.num_objects, "refused": len(shard.refused)}
            except InputError as refusal:  # returned, not raised: Ray would wrap the message in a traceback
                error = str(refusal)
            yield {"error": np.array([error]), **{name: np.array([count]) for name, count in made.items()}}


def run_parts(
    maker: PartMaker,
    storage: Storage,
    parts: Sequence[int],
    *,
    rows_per_group: int,
    actors: int | tuple[int, int],
    num_cpus: float,
    options: Mapping[str, Any] | None = None,
) -> Iterator[dict[str, int]]:
    """Make parts on all actors and yield {"rows", "objects", "refused"} of each as it is written.

    A part whose actor dies is made again. `options` are further Ray options of the actors. Raises InputError for
    failures that a retry cannot fix, such as a full disk, a missing bucket or actors that keep dying; parts with a
    record are kept.
    """
    if not parts:
        return
    context = copy.deepcopy(ray.data.DataContext.get_current())
    with ray.data.DataContext.current(context):
        # From memory: a source with a read task could wait forever for a CPU that the actors hold.
        numbers = ray.data.from_items([{"part": int(part)} for part in parts], override_num_blocks=len(parts))
        made = numbers.map_batches(
            _Parts,
            fn_constructor_args=(maker, storage.uri, rows_per_group),
            batch_size=1,
            batch_format="numpy",
            compute=actor_pool(actors),
            num_cpus=num_cpus,
            max_restarts=RESTARTS,
            **(options or {}),
        )
        with outliving("an actor that makes parts"):
            for row in made.iter_rows():
                if row["error"]:
                    raise InputError(row["error"])
                yield {name: int(row[name]) for name in ("rows", "objects", "refused")}
