"""A model is replaced while it serves, as when its alias moves. No Ray, no MLflow: both are handed in."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, Self, TypeVar

from models.errors import InputError
from serve.core.sources import Source

Take = Callable[[str, str], None]
"""Puts another checkpoint (its folder) in the place of the model of a name; raises InputError, and changes nothing."""
STOP_S = 10.0  # a server that ends does not wait longer for a model that is just being read
logger = logging.getLogger("maskwright.serve")


class Follower:
    """Watches where sources lead, and hands on what is new; what goes wrong is logged, and the old model serves on.

    `pin` says where a source leads now; `fetch` brings that here, and `take` checks it and puts it in a model's place.
    All three raise InputError. What `take` refused is not tried again until the alias moves on; what could not be
    looked up or fetched is, at each look.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        pinned: dict[str, str],
        pin: Callable[[str], str],
        fetch: Callable[[str], str],
        take: Take,
    ) -> None:
        """Follow `sources`, of which `pinned` (by name) is served already."""
        self._sources, self._seen = tuple(sources), dict(pinned)
        self._pin, self._fetch, self._take = pin, fetch, take
        self._told: dict[str, str] = {}

    def look(self) -> None:
        """Look once at every source."""
        for source in self._sources:
            try:
                pinned = self._pin(source.place)
                if pinned == self._seen[source.name]:
                    self._told.pop(source.name, None)
                    continue
                place = self._fetch(pinned)
            except InputError as error:
                self._tell(source.name, str(error))
                continue
            self._told.pop(source.name, None)
            self._seen[source.name] = pinned
            try:
                self._take(source.name, place)
            except InputError as error:
                logger.error("model %s stays as it was: %s is not used: %s", source.name, pinned, error)
            else:
                logger.warning("model %s is %s now", source.name, pinned)

    def run(self, seconds: float, stopped: threading.Event) -> None:
        """Look every so many seconds until `stopped`; whatever fails, the next look comes."""
        while not stopped.wait(seconds):
            try:
                self.look()
            except Exception:
                logger.exception("following aliases failed; the next look is in %g s", seconds)

    def _tell(self, name: str, problem: str) -> None:
        """Log what is wrong once, not at each look."""
        if self._told.get(name) != problem:
            self._told[name] = problem
            logger.error("model %s stays as it was: %s", name, problem)


@contextmanager
def following(follower: Follower | None, seconds: float) -> Iterator[None]:
    """Let `follower` (None: none) look every so many seconds while the block runs, in a thread."""
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
    """What is deployed; see Options."""

    def moved(self, name: str, place: str) -> Self:
        """The same with another checkpoint for the model of this name."""
        ...


T = TypeVar("T", bound=Movable)


class Rolling(Generic[T]):
    """What is served at the moment, of which one model at a time is replaced: tried first, taken back if it fails.

    `deploy` returns when the model of a name is served as it was given; `tried` raises InputError for one, of
    options by its name, that is of no use.
    """

    def __init__(self, options: T, deploy: Callable[[T, str], object], tried: Callable[[T, str], None]) -> None:
        self.options, self._deploy, self._tried = options, deploy, tried

    def take(self, name: str, place: str) -> None:
        """Put another checkpoint in the place of a model; what fails raises, and what was served is served again."""
        before, moved = self.options, self.options.moved(name, place)
        self._tried(moved, name)  # before replicas that answer are given up for it
        try:
            self._deploy(moved, name)
        except Exception:
            self._deploy(before, name)
            raise
        self.options = moved
