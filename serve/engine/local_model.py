"""Masks by the engine of this process: from sessions that it remembers, or made again from the session's value."""

import threading
from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from serve.core.options import Options
from serve.core.values import Basis
from serve.engine.asking import OPEN, FileNeeded, Kind, ModelInfo, Work
from serve.engine.engine import Engine, Session
from serve.engine.memory import NowAndThen
from serve.engine.waiting import Abandoned
from serve.observing import metrics
from serve.wire.images import decode_image

T = TypeVar("T")


class LocalModel:
    """Masks by the engine of this process; what it remembers of sessions is bounded by `max_cache_bytes`."""

    def __init__(self, engine: Engine, options: Options, num_sharing: int = 1) -> None:
        """Take an engine, and as many of the bytes as it has for itself where `num_sharing` share them."""
        self.engine, self._options = engine, options
        self._max_bytes = options.max_cache_bytes // num_sharing
        self._cached: OrderedDict[str, tuple[Basis, Session]] = OrderedDict()  # least recently used first
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

    def ask(self, kind: Kind[T], work: Work) -> T:
        """What a session has after its clicks. One call at a time for each session."""
        if kind is OPEN:
            self._give_back()  # here, where no request waits for a mask
        session = self._once(work) if work.session_id is None else self._kept(work.session_id, kind, work)
        return kind.made(self.engine, session, work)

    def forget(self, session_id: str) -> None:
        """Drop what is cached of a session."""
        with self._lock:
            self._cached.pop(session_id, None)
            self._sizes.pop(session_id, None)
            total = self._total()
        metrics.put(metrics.CACHE_BYTES, total, self.engine.model_version)

    def _kept(self, session_id: str, kind: Kind[T], work: Work) -> Session:
        # Taken out while it moves: if the network fails half way, no half-moved cache is left behind.
        with self._lock:
            before, session = self._cached.pop(session_id, (None, None))
        if session is None and work.load is None and work.image is None:
            raise FileNeeded
        if kind is not OPEN:
            found = "miss" if session is None else "hit"
            metrics.put(metrics.CACHE_LOOKUPS, 1, found, self.engine.model_version)
        if session is None or before is None or before.bit_depth != work.basis.bit_depth:
            with self._opening(work):
                session = self._opened(work)
        elif before != work.basis:
            session = self.engine.rebase(session, before, work.basis)
        try:
            session = session if kind is OPEN else self.engine.walk(session, work.clicks)
        except Abandoned:  # between two clicks: what it has is good
            self._keep(session_id, work.basis, session)
            raise
        self._keep(session_id, work.basis, session)
        return session

    def _once(self, work: Work) -> Session:
        with self._opening(work):  # to the end: nothing else bounds how many images wait for the network
            return self.engine.walk(self._opened(work), work.clicks)

    def _opening(self, work: Work) -> AbstractContextManager[object]:
        return self.engine.opening if work.image is None else nullcontext()

    def _opened(self, work: Work) -> Session:
        image = work.image
        if image is None:
            if work.load is None:
                raise FileNeeded
            image = decode_image(work.load(), self._options.max_pixels, work.basis.bit_depth)
        return self.engine.open(image, work.basis)

    def _keep(self, session_id: str, basis: Basis, session: Session) -> None:
        # A float32 RGB image, a float32 mask per click and one more, and what the network keeps for later clicks.
        size = session.hw[0] * session.hw[1] * (12 + 4 * (len(session.clicks) + 1))
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
