"""Steps that need no network, made-up rows, and readers that fail."""

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import rle
from models.refinement.state import State, Step
from models.steps import Steps
from pipeline.data.sample import Item, Reader, Sample
from pipeline.evaluation.object_row import ObjectRow


def answering(masks: Callable[[int], np.ndarray]) -> Step:
    """Make a step that answers the n-th click (from 1) with the mask `masks(n)`, wherever it is."""

    def step(state: State) -> Steps[State]:
        mask = masks(len(state.clicks))
        return replace(state, mask_prob=torch.from_numpy(mask).float()[None])
        yield ()  # makes this a generator, without any request

    return step


def no_network(requests: list[Any]) -> list[Any]:
    raise AssertionError(f"asked for a network: {requests}")


def row(
    object_id: str,
    ious: Sequence[float],
    refinement: str = "standard",
    dataset: str = "scenes",
    policy: str = "oracle",
    category: str = "",
) -> ObjectRow:
    return ObjectRow(
        dataset=dataset,
        refinement=refinement,
        policy=policy,
        item=object_id.split("/")[0],
        object=object_id,
        category=category,
        clicks=[(4.0, 5.5, number % 2 == 0) for number in range(len(ious))],
        measured={"iou": [float(np.float32(value)) for value in ious]},
        height=12,
        width=10,
        mask=rle.encode(np.eye(12, 10, dtype=bool))["counts"],
    )


def with_measured(row: ObjectRow, **measured: list[float | None]) -> ObjectRow:
    return replace(row, measured=row.measured | measured)


@dataclass(frozen=True, kw_only=True)
class DyingReader:
    """A reader that kills its process once, when `item_id` is loaded outside the test's process."""

    reader: Reader
    item_id: str
    marker: str
    home: int = field(default_factory=os.getpid)

    def items(self) -> Sequence[Item]:
        return self.reader.items()

    def load(self, item: Item) -> Sample:
        marker = Path(self.marker)
        if item.id == self.item_id and os.getpid() != self.home and not marker.exists():
            marker.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return self.reader.load(item)
