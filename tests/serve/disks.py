"""A network without weights, behind the real Predictor: it draws disks around the clicks, and fails on request."""

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.click_maps import ClickBatch
from models.errors import InputError
from models.exemplar import ExemplarBatch
from models.interaction import Clicks
from models.networks.base import Network, Output, Traits
from models.predictor import Predictor, Session, answer_with
from models.refinement import Refinement, State, named

RADIUS = 6.0
CERTAIN = 200.0
"""A logit whose probability is 1 to the last bit; that of its negative is 0."""


class Disks(Network):
    name = "fake"

    def __init__(self) -> None:
        super().__init__()
        self.traits, self.radius = Traits(size=None, zoom_size=None), RADIUS
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(
        self, image: Tensor, prev_mask: Tensor, clicks: ClickBatch, exemplar: ExemplarBatch | None = None
    ) -> Output:
        # What an exemplar shows is all that disks can find.
        drawn = prev_mask if exemplar is None else torch.maximum(prev_mask, exemplar.mask)
        rows, columns = (torch.arange(side, dtype=torch.float32) for side in image.shape[2:])
        # Those of earlier clicks are in the previous mask.
        (y, x), positive = clicks.yx[0, -1], clicks.positive[0, -1]
        disk = (rows[:, None] - y) ** 2 + (columns - x) ** 2 <= self.radius**2
        drawn = torch.where(disk & self.seen(image, y, x), positive.float(), drawn)
        return Output(CERTAIN * (2 * drawn - 1))

    def seen(self, image: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """Which pixels a click may reach."""
        return torch.ones(image.shape[2:], dtype=torch.bool)


class DiskPredictor(Predictor):
    """Refined, disks are larger."""

    def __init__(self, network: Disks | None = None) -> None:
        super().__init__(network or Disks(), Refinement(mask_threshold=0.5))
        self.model_version = "fake-1"
        self.num_opened = 0
        self.num_forwards = 0
        self.fail_with: Exception | None = None
        self.ahead: list[int] = []  # clicks that sessions had when they looked ahead
        self.fail_ahead = False
        self.nan = False
        self.busy = threading.Semaphore(1)
        self.origin, self.radius = self, RADIUS  # of variants, the one that counts
        self.refinements = ("standard", "cfr_1")
        self.answer = self.drawing()

    refinements: tuple[str, ...] = ()  # pyright: ignore

    @property
    def takes_exemplar(self) -> bool:
        return self.network.traits.exemplar

    @takes_exemplar.setter
    def takes_exemplar(self, taken: bool) -> None:
        self.network.traits = replace(self.network.traits, exemplar=taken)

    def drawing(self) -> Any:
        def answer(requests: list[Any]) -> list[Any]:
            origin = self.origin
            assert self.busy.acquire(blocking=False), "two forwards at once"
            try:
                origin.num_forwards += 1
                if origin.fail_with is not None:
                    raise origin.fail_with
                self.network.radius = self.radius
                found = answer_with(self.network)(requests)
                return [logits * float("nan") for logits in found] if origin.nan else found
            finally:
                self.busy.release()

        return answer

    def refined(self, refinement: Any = None, mask_threshold: float | None = None) -> "DiskPredictor":
        if refinement is not None and refinement not in self.refinements:
            raise InputError(f"unknown refinement {refinement}: expected standard or cfr_1")
        other: Any = super().refined(None, mask_threshold)
        other.radius = RADIUS
        if refinement == "cfr_1":  # by its name alone: its clicks are made by one forward, as all are
            other.radius = RADIUS + 2
            other.refinement = replace(named("cfr_1"), mask_threshold=other.mask_threshold)
        other.answer = other.drawing()
        return other

    def open(
        self, image: np.ndarray, mask: np.ndarray | None = None, exemplar: tuple[np.ndarray, Clicks] | None = None
    ) -> Session:
        self.num_opened += 1
        return super().open(image, mask, exemplar)

    def look_ahead(self, state: State) -> None:
        self.origin.ahead.append(len(state.clicks))
        if self.origin.fail_ahead:
            raise RuntimeError("no memory")
        super().look_ahead(state)
