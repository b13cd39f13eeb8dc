"""The engine: a predictor and the lock around its network. No HTTP, no Ray: the seam along which serving is split.

On a CPU one forward at a time is as fast as several and keeps every user's wait predictable. Whoever calls this is a
worker thread, never the event loop.
"""

import contextlib
import threading
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np

from models.errors import InputError
from models.interaction import Click, Clicks

FAILURES_UNTIL_UNWELL = 3
NUM_OPENING = 2  # images that are decoded at the same time: one of 32 megapixels takes half a GB
WARM_UP_HW = (256, 256)


class PredictorSession(Protocol):
    """What the engine needs of models.predictor.Session."""

    @property
    def clicks(self) -> Clicks:
        """Clicks made so far."""
        ...

    @property
    def mask(self) -> np.ndarray:
        """Mask after these clicks, bool (h, w)."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Bytes kept for later clicks beside image and masks."""
        ...

    def click(self, y: float, x: float, positive: bool = True) -> np.ndarray:
        """Add a click; returns mask_prob float32 (h, w)."""
        ...

    def undo(self) -> np.ndarray | None:
        """Drop the last click."""
        ...


class PredictorLike(Protocol):
    """What the engine needs of models.predictor.Predictor."""

    @property
    def model_version(self) -> str:
        """Names the weights."""
        ...

    @property
    def network_name(self) -> str:
        """Name in the registry of networks."""
        ...

    def open(self, image: np.ndarray, mask: np.ndarray | None = None) -> Any:
        """Start a PredictorSession on uint8 (h, w, 3) RGB, from bool (h, w) or from nothing."""
        ...


class ModelNan(RuntimeError):
    """The network produced values that are not numbers."""


class Engine:
    """Runs sessions of one predictor, one forward at a time."""

    def __init__(self, predictor: PredictorLike, refinement: str = "standard", *, alone: bool = True) -> None:
        """Take a predictor. `alone`: one click at a time; else clicks run side by side, for its `answer` to batch."""
        self.refinement = refinement
        self._predictor = predictor
        self._network: AbstractContextManager[object] = threading.Lock() if alone else contextlib.nullcontext()
        self._failures = 0
        self._warm = False
        self.opening = threading.BoundedSemaphore(NUM_OPENING)
        """Hold this while an image is decoded and opened; of other locks, only a record's may be held before it."""

    @property
    def model_version(self) -> str:
        """Names the weights; part of every answer."""
        return self._predictor.model_version

    @property
    def network(self) -> str:
        """Name of the network."""
        return self._predictor.network_name

    @property
    def healthy(self) -> bool:
        """False after several failures in a row: time for a new process."""
        return self._failures < FAILURES_UNTIL_UNWELL

    @property
    def ready(self) -> bool:
        """True once a click has gone through the network, unless it became unwell since."""
        return self._warm and self.healthy

    def warm_up(self) -> None:
        """Make one click on a grey image: what is slow the first time happens now; raises ModelNan."""
        height, width = WARM_UP_HW
        session = self.open(np.full((height, width, 3), 128, np.uint8), None)
        self.walk(session, (Click(y=height // 2, x=width // 2, positive=True),))

    def open(self, image: np.ndarray, mask: np.ndarray | None) -> PredictorSession:
        """Start a session on uint8 (h, w, 3) RGB, from a mask bool (h, w) or from nothing."""
        with self._network:
            return self._predictor.open(image, mask)

    def walk(self, session: PredictorSession, clicks: tuple[Click, ...]) -> PredictorSession:
        """Bring a session to exactly these clicks: undo down to what it shares with them, then click the rest.

        Raises ModelNan, after which the session is of no use. Other sessions get their turn between two clicks.
        """
        target = Clicks.of(clicks).rows()
        made = session.clicks.rows()
        shared = next((i for i, (a, b) in enumerate(zip(made, target, strict=False)) if a != b), None)
        keep = min(len(made), len(target)) if shared is None else shared
        for _ in range(len(made) - keep):
            session.undo()
        for y, x, positive in target[keep:]:
            with self._network:
                self._click(session, y, x, positive)
        return session

    def _click(self, session: PredictorSession, y: float, x: float, positive: bool) -> None:
        try:
            mask_prob = session.click(y, x, positive)
            if not np.isfinite(mask_prob).all():
                raise ModelNan(f"mask_prob holds NaN or infinity after a click at (y={y}, x={x})")
        except InputError:
            raise
        except Exception:
            self._failures += 1
            raise
        self._failures, self._warm = 0, True
