"""Compute masks with the engine of this process, from cached sessions or again from a session's value."""

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
    """A Model on the engine of this process, which caches at most `max_cache_bytes` of sessions."""

    def __init__(self, engine: Engine, options: Options, num_sharing: int = 1) -> None:
        """Take an engine; `num_sharing` models of this process share `max_cache_bytes` equally."""
        self.engine, self._options = engine, options
        self._max_bytes = options.max_cache_bytes // num_sharing
        self._cached: OrderedDict[str, tuple[Basis, Session]] = OrderedDict()  # least recently used first
        self._sizes: dict[str, dict[str | int, int]] = {}  # bytes, keyed so that shared data counts once
        self._lock = threading.Lock()
        self._give_back = NowAndThen()

    def info(self) -> ModelInfo:
        """Return the description and state of the model."""
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
        """Return the result of a session after its clicks. At most one call at a time per session."""
        if kind is OPEN:
            self._give_back()  # now, because this request does not wait for a mask
        session = self._once(work) if work.session_id is None else self._kept(work.session_id, kind, work)
        return kind.made(self.engine, session, work)

    def forget(self, session_id: str) -> None:
        """Drop the cached data of a session."""
        with self._lock:
            self._cached.pop(session_id, None)
            self._sizes.pop(session_id, None)
            total = self._total()
        metrics.put(metrics.CACHE_BYTES, total, self.engine.model_version)

    def _kept(self, session_id: str, kind: Kind[T], work: Work) -> Session:
        # Removed while it changes, so that a failure of the network leaves no half-changed session in the cache.
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
        except Abandoned:  # raised between two clicks, so the session is valid
            self._keep(session_id, work.basis, session)
            raise
        self._keep(session_id, work.basis, session)
        return session

    def _once(self, work: Work) -> Session:
        with self._opening(work):  # until the end, because nothing else limits how many images wait for the network
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
        # A float32 RGB image, a float32 mask per click plus one, and what the network keeps for later clicks.
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
        """Return the bytes of all cached sessions."""
        return sum({what: size for each in self._cached for what, size in self._sizes[each].items()}.values())
