"""A predictor without a network: disks around the clicks. Same interface as models.predictor."""

import threading

import numpy as np

from models.interaction import Click, Clicks, check_click

RADIUS = 6.0


class FakePredictor:
    model_version = "fake-1"
    network_name = "fake"

    def __init__(self) -> None:
        self.num_opened = 0
        self.num_forwards = 0
        self.fail_with: Exception | None = None
        self.nan = False
        self.busy = threading.Semaphore(1)

    def open(self, image: np.ndarray, mask: np.ndarray | None = None) -> "FakeSession":
        self.num_opened += 1
        return FakeSession(self, image, mask)


class FakeSession:
    memory_bytes = 0

    def __init__(self, predictor: FakePredictor, image: np.ndarray, mask: np.ndarray | None) -> None:
        self.predictor, self.image, self.hw = predictor, image, image.shape[:2]
        start = np.zeros(self.hw, np.float32) if mask is None else mask.astype(np.float32)
        self.states: list[tuple[Clicks, np.ndarray]] = [(Clicks.none(), start)]

    @property
    def clicks(self) -> Clicks:
        return self.states[-1][0]

    @property
    def mask_prob(self) -> np.ndarray:
        return self.states[-1][1]

    @property
    def mask(self) -> np.ndarray:
        return self.mask_prob > 0.5

    def click(self, y: float, x: float, positive: bool = True) -> np.ndarray:
        check_click(y, x, self.hw)
        assert self.predictor.busy.acquire(blocking=False), "two forwards at once"
        try:
            self.predictor.num_forwards += 1
            if self.predictor.fail_with is not None:
                raise self.predictor.fail_with
            clicks, prob = self.states[-1]
            rows, columns = np.ogrid[: self.hw[0], : self.hw[1]]
            disk = (rows - y) ** 2 + (columns - x) ** 2 <= RADIUS**2
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
