"""Masks of sessions: from caches that may vanish, or made again from the session's value. One process's part of it."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from models import rle
from models.interaction import Click
from models.rle import Rle
from serve.core.made import Made
from serve.core.options import Options
from serve.core.values import Basis
from serve.engine.engine import Engine, PredictorSession
from serve.engine.memory import NowAndThen
from serve.engine.waiting import Abandoned
from serve.observing import metrics
from serve.wire.images import decode_image

Load = Callable[[], bytes]
"""Fetches a session's image file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """Which model answers."""

    model_version: str
    network: str
    refinement: str
    mask_threshold: float = 0.49
    refinements: tuple[str, ...] = ()
    """What a session may choose instead."""
    takes_exemplar: bool = False
    healthy: bool = True
    ready: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """A session as those who make its masks see it. `load` fetches its image file, should it be needed."""

    session_id: str
    load: Load
    basis: Basis
    clicks: tuple[Click, ...]


class Masks(Protocol):
    """What the interface needs of what runs a model. Methods may take as long as a forward; raise ModelNan, Problem.

    They disregard `Basis.model`: serve/engine/fleet.py finds the model that it names.
    """

    def info(self) -> ModelInfo:
        """Which model answers, and whether it does."""
        ...

    def open(self, session_id: str, data: bytes, image: np.ndarray, basis: Basis) -> None:
        """Do for a new session what needs no click."""
        ...

    def mask(self, work: Work) -> Made:
        """The mask that a session has after its clicks."""
        ...

    def probability(self, work: Work) -> np.ndarray:
        """The probability map of that mask, uint8 (h, w): 0 to 255 for 0 to 1."""
        ...

    def passes(self, work: Work) -> list[tuple[str, Rle]]:
        """How that mask came about: name and mask after each pass of the refinement."""
        ...

    def once(self, data: bytes, image: np.ndarray, basis: Basis, clicks: tuple[Click, ...]) -> Made:
        """The mask of clicks on an image that is not kept, given as a file and as its pixels."""
        ...

    def forget(self, session_id: str) -> None:
        """Drop what is cached of a session."""
        ...


class LocalMasks:
    """Masks by the engine of this process; what it remembers of sessions is bounded by `max_cache_bytes`."""

    def __init__(self, engine: Engine, options: Options, num_sharing: int = 1) -> None:
        """Take an engine, and as many of the bytes as it has for itself where `num_sharing` share them."""
        self.engine, self._options = engine, options
        self._max_bytes = options.max_cache_bytes // num_sharing
        self._cached: OrderedDict[str, tuple[Basis, PredictorSession]] = OrderedDict()  # least recently used first
        self._sizes: dict[str, dict[str | int, int]] = {}  # bytes, by what sessions may have in common
        self._lock = threading.Lock()
        self._give_back = NowAndThen()

    def info(self) -> ModelInfo:
        """Which model answers, and whether it does."""
        engine = self.engine
        return ModelInfo(
            model_version=engine.model_version,
            network=engine.network,
            refinement=engine.refinement,
            mask_threshold=engine.mask_threshold,
            refinements=engine.refinements,
            takes_exemplar=engine.takes_exemplar,
            healthy=engine.healthy,
            ready=engine.ready,
        )

    def open(self, session_id: str, data: bytes, image: np.ndarray, basis: Basis) -> None:
        """Open the image, which is decoded already."""
        self._give_back()  # here, where no request waits for a mask
        self._keep(session_id, basis, self.engine.open(image, basis), (image.shape[0], image.shape[1]))

    def mask(self, work: Work) -> Made:
        """The mask that a session has after its clicks. One call at a time for each session."""
        return Made.of(self._walked(work).mask, work.clicks, self.engine.model_version)

    def probability(self, work: Work) -> np.ndarray:
        """The probability map of that mask, uint8 (h, w); 0 before the first mask."""
        session = self._walked(work)
        prob = session.mask_prob
        return np.zeros(session.mask.shape, np.uint8) if prob is None else (prob * 255 + 0.5).astype(np.uint8)

    def passes(self, work: Work) -> list[tuple[str, Rle]]:
        """How that mask came about: name and mask after each pass of the refinement."""
        return [(name, rle.encode(mask)) for name, mask in self.engine.passes(self._walked(work))]

    def once(self, data: bytes, image: np.ndarray, basis: Basis, clicks: tuple[Click, ...]) -> Made:
        """The mask of clicks on an image that is not kept, given as a file and as its pixels."""
        mask = self.engine.walk(self.engine.open(image, basis), clicks).mask
        return Made.of(mask, clicks, self.engine.model_version)

    def forget(self, session_id: str) -> None:
        """Drop what is cached of a session."""
        with self._lock:
            self._cached.pop(session_id, None)
            self._sizes.pop(session_id, None)
            total = self._total()
        metrics.put(metrics.CACHE_BYTES, total, self.engine.model_version)

    def has(self, session_id: str) -> bool:
        """Whether a session is cached at this moment."""
        with self._lock:
            return session_id in self._cached

    def _walked(self, work: Work) -> PredictorSession:
        # Taken out while it moves: if the network fails half way, no half-moved cache is left behind.
        with self._lock:
            before, session = self._cached.pop(work.session_id, (None, None))
        found = "miss" if session is None else "hit"
        metrics.put(metrics.CACHE_LOOKUPS, 1, found, self.engine.model_version)
        if session is None or before is None or before.bit_depth != work.basis.bit_depth:
            session = self._opened(work.load(), work.basis)
        elif before != work.basis:
            session = self.engine.rebase(session, before, work.basis)
        try:
            session = self.engine.walk(session, work.clicks)
        except Abandoned:  # between two clicks: what it has is good
            self._keep(work.session_id, work.basis, session, session.hw)
            raise
        self._keep(work.session_id, work.basis, session, session.hw)
        return session

    def _opened(self, data: bytes, basis: Basis) -> PredictorSession:
        with self.engine.opening:
            return self.engine.open(decode_image(data, self._options.max_pixels, basis.bit_depth), basis)

    def _keep(self, session_id: str, basis: Basis, session: PredictorSession, hw: tuple[int, int]) -> None:
        # A float32 RGB image, a float32 mask per click and one more, and what the network keeps for later clicks.
        size = hw[0] * hw[1] * (12 + 4 * (len(session.clicks) + 1))
        with self._lock:
            self._cached[session_id], self._sizes[session_id] = (basis, session), {session_id: size} | session.memory
            self._cached.move_to_end(session_id)
            while (total := self._total()) > self._max_bytes and len(self._cached) > 1:
                other, _ = self._cached.popitem(last=False)
                del self._sizes[other]
                metrics.put(metrics.CACHE_EVICTIONS, 1, self.engine.model_version)
        metrics.put(metrics.CACHE_BYTES, total, self.engine.model_version)

    def _total(self) -> int:
        """Bytes of all that is cached."""
        return sum({what: size for each in self._cached for what, size in self._sizes[each].items()}.values())
