"""Masks of sessions: from caches that may vanish, or made anew from the session's value. One process's part of it."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models import rle
from models.interaction import Click
from models.rle import Rle
from serve.engine import Engine, PredictorSession
from serve.images import decode_image
from serve.made import Made
from serve.settings import Settings

Load = Callable[[], bytes]
"""Fetches a session's image file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """Which model answers."""

    model_version: str
    network: str
    refinement: str
    healthy: bool = True
    ready: bool = True


class Masks(Protocol):
    """What the interface needs of whoever runs the model. Methods may take as long as a forward; raise ModelNan."""

    def info(self) -> ModelInfo:
        """Which model answers, and whether it does."""
        ...

    def open(self, session_id: str, data: bytes, image: np.ndarray, initial_mask: Rle | None) -> None:
        """Do for a new session what needs no click."""
        ...

    def mask(self, session_id: str, load: Load, initial_mask: Rle | None, clicks: tuple[Click, ...]) -> Made:
        """The mask that a session has after these clicks."""
        ...

    def once(self, data: bytes, image: np.ndarray, initial_mask: Rle | None, clicks: tuple[Click, ...]) -> Made:
        """The mask of clicks on an image that nobody keeps, given as a file and as its pixels."""
        ...

    def forget(self, session_id: str) -> None:
        """Drop what is cached of a session."""
        ...


class LocalMasks:
    """Masks by the engine of this process; what it remembers of sessions is bounded by `max_cache_bytes`."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self._settings = engine, settings
        self._cached: OrderedDict[str, PredictorSession] = OrderedDict()  # least recently used first
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()

    def info(self) -> ModelInfo:
        """Which model answers, and whether it does."""
        engine = self.engine
        return ModelInfo(
            model_version=engine.model_version,
            network=engine.network,
            refinement=engine.refinement,
            healthy=engine.healthy,
            ready=engine.ready,
        )

    def open(self, session_id: str, data: bytes, image: np.ndarray, initial_mask: Rle | None) -> None:
        """Open the image, which is decoded already."""
        self._keep(session_id, self.engine.open(image, _mask(initial_mask)), (image.shape[0], image.shape[1]))

    def mask(self, session_id: str, load: Load, initial_mask: Rle | None, clicks: tuple[Click, ...]) -> Made:
        """The mask that a session has after these clicks. One call at a time for each session."""
        # Taken out while it moves: if the network fails half way, no half-moved cache is left behind.
        with self._lock:
            session = self._cached.pop(session_id, None)
        if session is None:
            session = self._opened(load(), initial_mask)
        mask = self.engine.walk(session, clicks).mask
        self._keep(session_id, session, (mask.shape[0], mask.shape[1]))
        return Made.of(mask, clicks, self.engine.model_version)

    def once(self, data: bytes, image: np.ndarray, initial_mask: Rle | None, clicks: tuple[Click, ...]) -> Made:
        """The mask of clicks on an image that nobody keeps, given as a file and as its pixels."""
        mask = self.engine.walk(self.engine.open(image, _mask(initial_mask)), clicks).mask
        return Made.of(mask, clicks, self.engine.model_version)

    def forget(self, session_id: str) -> None:
        """Drop what is cached of a session."""
        with self._lock:
            self._cached.pop(session_id, None)
            self._sizes.pop(session_id, None)

    def has(self, session_id: str) -> bool:
        """Whether a session is cached at this moment."""
        with self._lock:
            return session_id in self._cached

    def _opened(self, data: bytes, initial_mask: Rle | None) -> PredictorSession:
        with self.engine.opening:
            return self.engine.open(decode_image(data, self._settings.max_pixels), _mask(initial_mask))

    def _keep(self, session_id: str, session: PredictorSession, hw: tuple[int, int]) -> None:
        # A float32 RGB image, a float32 mask per click and one more, and what the network keeps for later clicks.
        size = hw[0] * hw[1] * (12 + 4 * (len(session.clicks) + 1)) + session.memory_bytes
        with self._lock:
            self._cached[session_id], self._sizes[session_id] = session, size
            self._cached.move_to_end(session_id)
            total = sum(self._sizes[other] for other in self._cached)
            for other in list(self._cached):
                if total <= self._settings.max_cache_bytes:
                    break
                if other != session_id:
                    total -= self._sizes.pop(other)
                    del self._cached[other]


def _mask(encoded: Rle | None) -> np.ndarray | None:
    return None if encoded is None else rle.decode(encoded)
