"""Replace a model while it serves, for example when its alias moves. Ray and MLflow come in as plain functions."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, Self, TypeVar

from models.errors import InputError
from serve.core.sources import Source

Take = Callable[[str, str], None]
"""Replaces the checkpoint of a model: takes its name and a folder. Changes nothing where it raises InputError."""
STOP_S = 10.0  # a server that stops waits no longer for a model that is being loaded
logger = logging.getLogger("maskwright.serve")


class Follower:
    """Watch aliases, and replace a model when its alias moves. After a failure, the old model keeps serving.

    `pin` resolves a source to its current version, `fetch` downloads that version, and `take` checks it and replaces
    the model. All three raise InputError, which is logged. A version that `take` refused is not tried again until the
    alias moves; a failure of `pin` or `fetch` is retried at every look.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        pinned: dict[str, str],
        pin: Callable[[str], str],
        fetch: Callable[[str], str],
        take: Take,
    ) -> None:
        """Follow `sources`; `pinned` holds, by name, the versions that are already served."""
        self._sources, self._seen = tuple(sources), dict(pinned)
        self._pin, self._fetch, self._take = pin, fetch, take
        self._logged: dict[str, str] = {}

    def look(self) -> None:
        """Check every source once."""
        for source in self._sources:
            try:
                pinned = self._pin(source.place)
                if pinned == self._seen[source.name]:
                    self._logged.pop(source.name, None)
                    continue
                place = self._fetch(pinned)
            except InputError as error:
                self._log(source.name, str(error))
                continue
            self._logged.pop(source.name, None)
            self._seen[source.name] = pinned
            try:
                self._take(source.name, place)
            except InputError as error:
                logger.error("model %s is unchanged: %s cannot be used: %s", source.name, pinned, error)
            else:
                logger.warning("model %s is now %s", source.name, pinned)

    def run(self, seconds: float, stopped: threading.Event) -> None:
        """Check every so many seconds until `stopped` is set, whatever fails meanwhile."""
        while not stopped.wait(seconds):
            try:
                self.look()
            except Exception:
                logger.exception("checking the aliases failed; the next check is in %g s", seconds)

    def _log(self, name: str, problem: str) -> None:
        """Log a problem once, not at each check."""
        if self._logged.get(name) != problem:
            self._logged[name] = problem
            logger.error("model %s is unchanged: %s", name, problem)


@contextmanager
def following(follower: Follower | None, seconds: float) -> Iterator[None]:
    """Run `follower`, if any, in a thread while the block runs; it checks every so many seconds."""
    stopped = threading.Event()
    if follower is None:
        yield
        return
    thread = threading.Thread(target=follower.run, args=(seconds, stopped), name="follow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(STOP_S)


class Movable(Protocol):
    """The options of a deployment; see Options."""

    def moved(self, name: str, place: str) -> Self:
        """Return options in which the model of this name has another checkpoint."""
        ...


T = TypeVar("T", bound=Movable)


class Rolling(Generic[T]):
    """The options that are served at the moment. A replacement is tried before it is deployed, and undone if it fails.

    `deploy` deploys the named model of the options and returns when it serves; `tried` raises InputError if the named
    model cannot be used.
    """

    def __init__(self, options: T, deploy: Callable[[T, str], object], tried: Callable[[T, str], None]) -> None:
        self.options, self._deploy, self._tried = options, deploy, tried

    def take(self, name: str, place: str) -> None:
        """Replace the checkpoint of a model; after a failure, deploy the old one again and raise."""
        before, moved = self.options, self.options.moved(name, place)
        self._tried(moved, name)  # before it costs replicas that serve
        try:
            self._deploy(moved, name)
        except Exception:
            self._deploy(before, name)
            raise
        self.options = moved
