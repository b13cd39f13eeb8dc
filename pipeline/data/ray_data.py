"""The training stream on Ray Data: a block per window, made by a pool of actors; its rows equal those of local.py.

`dataset` runs in the driver (or in Ray Train's controller, which calls it at every start of its workers); `_Windows`
runs in the actors. The source lists window numbers in memory: a source with a read task could wait forever for a CPU
that the actors hold.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import ray
import ray.data

from models.errors import InputError
from pipeline.data.config import DataConfig
from pipeline.data.rows import Batch, collate
from pipeline.data.sample import Item, Reader
from pipeline.data.sampling import Order
from pipeline.data.targets import settled
from pipeline.data.windows import make_window
from pipeline.ray_refusals import UNCOLLECTED, Refusals

RESTARTS = 3
"""How often Ray restarts an actor that died; restarts after its node was preempted do not count."""
MAX_TASKS = 2000  # Ray Data plans tasks one by one: 10,000 of them delayed the first batch by 8 seconds


class _Windows:
    """Make windows in one actor, which gets the reader and its list of items once."""

    def __init__(self, source: list[Any], config: DataConfig, refusals: Refusals) -> None:
        import cv2

        cv2.setNumThreads(1)  # the pool is the parallelism
        self.reader, self.items = ray.get(source[0])
        self.config, self.refusals = config, refusals
        self.order = Order.of(self.items, config.window_size, config.seed)

    def __call__(self, batch: dict[str, np.ndarray]) -> Iterator[Batch]:
        for number in np.concatenate([np.asarray(numbers) for numbers in batch["windows"]]).tolist():
            with self.refusals.refusing():
                window = make_window(self.items, self.reader, self.config, self.order.window(number))
            yield collate(window)


def ordered_options(memory_bytes: int = 0) -> ray.data.ExecutionOptions:
    """Return a copy of this process's execution options that preserves the order of rows.

    `memory_bytes` limits the object store memory of finished windows that wait; above it the actors pause (0: Ray's
    default). Ray Train replaces the options of every Dataset it is given, so a trainer needs them too:
    `dataset_config=ray.train.DataConfig(execution_options=ordered_options())`.
    """
    options = copy.deepcopy(ray.data.DataContext.get_current().execution_options)
    options.preserve_order = True
    if memory_bytes:
        options.resource_limits = options.resource_limits.copy(object_store_memory=memory_bytes)
    return options


def actor_pool(actors: int | tuple[int, int]) -> ray.data.ActorPoolStrategy:
    """Return a pool of a fixed size, or one that scales between (least, most); raises InputError for other sizes."""
    least, most = (actors, actors) if isinstance(actors, int) else actors
    if not 1 <= least <= most:
        raise InputError(f"actors is {actors}: expected a number >= 1, or (least, most) with 1 <= least <= most")
    if least == most:
        return ray.data.ActorPoolStrategy(size=least)
    return ray.data.ActorPoolStrategy(min_size=least, max_size=most)


def dataset(
    reader: Reader,
    config: DataConfig,
    windows: Sequence[int],
    *,
    num_cpus: float = 0.2,
    actors: int | tuple[int, int] = 1,
    items: Sequence[Item] | None = None,
    memory_bytes: int = 0,
    refusals: Refusals = UNCOLLECTED,
    options: Mapping[str, Any] | None = None,
) -> ray.data.Dataset:
    """Build the stream of `windows` (numbers as in sampling.Order) as a lazy Dataset of rows in index order.

    `num_cpus` is what one actor reserves. Keep the pool's sum below the CPUs that the training workers leave free, or
    the stream stalls. `actors` is the pool's size or its (least, most): it grows while windows are requested faster
    than they are made. Pass `items` to avoid listing the data set again; `memory_bytes` is that of `ordered_options`.
    The actors leave their InputErrors, which Ray wraps, in `refusals`; `options` are further Ray options of the actors.
    A long stream has at most 2000 tasks, of several windows each.

    Raises InputError if `windows` is empty, or num_cpus is not positive.
    """
    if len(windows) == 0:
        raise InputError("the stream was given no windows: expected at least 1")
    if num_cpus <= 0:
        raise InputError(f"num_cpus is {num_cpus}: expected a number above 0, such as 0.2")
    pool = actor_pool(actors)
    items = reader.items() if items is None else items
    config = settled(config, reader, items)
    source = ray.put((reader, items))
    # A Dataset keeps the context it was made in: a copy leaves the caller's settings unchanged.
    context = copy.deepcopy(ray.data.DataContext.get_current())
    context.execution_options = ordered_options(memory_bytes)
    with ray.data.DataContext.current(context):
        share = -(-len(windows) // MAX_TASKS)
        tasks = [{"windows": [int(n) for n in windows[i : i + share]]} for i in range(0, len(windows), share)]
        numbers = ray.data.from_items(tasks, override_num_blocks=len(tasks))
        return numbers.map_batches(
            _Windows,
            fn_constructor_args=([source], config, refusals),
            batch_size=1,
            batch_format="numpy",
            compute=pool,
            num_cpus=num_cpus,
            **(options or {}),
            max_restarts=RESTARTS,
        )
