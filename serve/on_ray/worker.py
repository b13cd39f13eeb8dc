"""What a replica that owns sessions does, without Ray: masks of sessions as run lengths, by what it remembers.

A worker that does not know a session says so (None) and gets its image file with the second call: files do not travel
with each click.
"""

from collections.abc import Callable
from typing import Any

from serve.core.clicks import Rows, clicks_of
from serve.core.made import Made
from serve.core.options import Options
from serve.core.values import Basis
from serve.engine.engine import Engine
from serve.engine.masks import LocalMasks, ModelInfo, Work
from serve.wire.images import decode_image


class Worker:
    """Sessions of one replica."""

    def __init__(self, engine: Engine, options: Options) -> None:
        self.engine, self._options = engine, options
        self._masks = LocalMasks(engine, options)

    def info(self) -> ModelInfo:
        """Which model answers."""
        return self._masks.info()

    def open(self, session_id: str, data: bytes, basis: Basis) -> None:
        """Decode and open an image before its first click."""
        with self.engine.opening:
            image = decode_image(data, self._options.max_pixels, basis.bit_depth)
            self._masks.open(session_id, data, image, basis)

    def ask(self, what: str, session_id: str, data: bytes | None, basis: Basis, clicks: Rows) -> Any:
        """What a session has after these clicks: its "mask", "probability" or "passes"; None: the file is needed."""
        if data is None and not self._masks.has(session_id):
            return None

        def load() -> bytes:
            if data is None:
                raise _Gone
            return data

        answers: dict[str, Callable[[Work], Any]] = {
            "mask": self._masks.mask,
            "probability": self._masks.probability,
            "passes": self._masks.passes,
        }
        try:
            return answers[what](Work(session_id=session_id, load=load, basis=basis, clicks=clicks_of(clicks)))
        except _Gone:  # between the two questions another session took its place
            return None

    def once(self, data: bytes, basis: Basis, clicks: Rows) -> Made:
        """The mask of clicks on an image that is not kept."""
        with self.engine.opening:
            image = decode_image(data, self._options.max_pixels, basis.bit_depth)
            return self._masks.once(data, image, basis, clicks_of(clicks))

    def forget(self, session_id: str) -> None:
        """Drop what is cached of a session."""
        self._masks.forget(session_id)


class _Gone(Exception):
    """What was cached a moment ago is not any more."""
