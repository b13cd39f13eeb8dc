"""A predictor without a network: disks around the clicks. Same interface as models.predictor."""

import copy
import threading

import numpy as np

from models.errors import InputError
from models.interaction import Click, Clicks, check_click

RADIUS = 6.0


class FakePredictor:
    model_version = "fake-1"
    network_name = "fake"

    def __init__(self) -> None:
        self.num_opened = 0
        self.num_forwards = 0
        self.fail_with: Exception | None = None
        self.ahead: list[int] = []  # clicks that sessions had when they looked ahead
        self.fail_ahead = False
        self.nan = False
        self.busy = threading.Semaphore(1)
        self.origin = self  # of variants, the one that counts

        self.radius, self.mask_threshold, self.takes_exemplar = RADIUS, 0.5, False
        self.refinements: tuple[str, ...] = ("standard", "cfr_1")

    def open(
        self, image: np.ndarray, mask: np.ndarray | None = None, exemplar: tuple[np.ndarray, Clicks] | None = None
    ) -> "FakeSession":
        self.num_opened += 1
        # What an exemplar shows is all that a fake can find.
        return FakeSession(self, image, mask if exemplar is None else exemplar[0])

    def reopen(
        self, session: "FakeSession", mask: np.ndarray | None = None, exemplar: tuple[np.ndarray, Clicks] | None = None
    ) -> "FakeSession":
        return FakeSession(self, session.image, mask if exemplar is None else exemplar[0])

    def refined(self, refinement: str | None = None, mask_threshold: float | None = None) -> "FakePredictor":
        """Refined, disks are larger."""
        other = copy.copy(self)
        other.origin = self.origin
        if refinement is not None and refinement not in self.refinements:
            raise InputError(f"unknown refinement {refinement}: expected standard or cfr_1")
        other.radius = RADIUS + 2 if refinement == "cfr_1" else RADIUS
        other.mask_threshold = self.mask_threshold if mask_threshold is None else mask_threshold
        return other


class FakeSession:
    content = ""

    def __init__(self, predictor: FakePredictor, image: np.ndarray, mask: np.ndarray | None) -> None:
        self.predictor, self.image, self.hw = predictor, image, image.shape[:2]
        start = np.zeros(self.hw, np.float32) if mask is None else mask.astype(np.float32)
        self.states: list[tuple[Clicks, np.ndarray]] = [(Clicks.none(), start)]
        self.memory: dict[int, int] = {}

    @property
    def clicks(self) -> Clicks:
        return self.states[-1][0]

    @property
    def mask_prob(self) -> np.ndarray:
        return self.states[-1][1]

    @property
    def mask(self) -> np.ndarray:
        return self.mask_prob > self.predictor.mask_threshold

    def look_ahead(self) -> None:
        assert self.predictor.busy.acquire(blocking=False), "two forwards at once"
        try:
            self.predictor.origin.ahead.append(len(self.clicks))
            if self.predictor.origin.fail_ahead:
                raise RuntimeError("no memory")
        finally:
            self.predictor.busy.release()

    def passes(self) -> list[tuple[str, np.ndarray]]:
        return [] if len(self.states) < 2 else [("first look", self.mask)]

    def refined(self, predictor: FakePredictor) -> "FakeSession":
        other = FakeSession(predictor, self.image, None)
        other.states = self.states[:1] if predictor.radius != self.predictor.radius else list(self.states)
        return other

    def click(self, y: float, x: float, positive: bool = True) -> np.ndarray:
        check_click(y, x, self.hw)
        assert self.predictor.busy.acquire(blocking=False), "two forwards at once"
        try:
            self.predictor.origin.num_forwards += 1
            if self.predictor.fail_with is not None:
                raise self.predictor.fail_with
            clicks, prob = self.states[-1]
            rows, columns = np.ogrid[: self.hw[0], : self.hw[1]]
            disk = (rows - y) ** 2 + (columns - x) ** 2 <= self.predictor.radius**2
            prob = np.where(disk, np.float32(positive), prob).astype(np.float32)
            if self.predictor.nan:
                prob = prob * np.float32(np.nan)
            self.states.append((clicks.add(Click(y=y, x=x, positive=positive)), prob))
            return prob
        finally:
            self.predictor.busy.release()

    def undo(self) -> np.ndarray | None:
        if len(self.states) > 1:
            self.states.pop()
        return self.mask_prob
