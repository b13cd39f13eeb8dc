"""A model is replaced in an application of several processes: tried first, and taken back if it fails. No Ray."""

from collections.abc import Callable
from typing import Generic, Protocol, Self, TypeVar


class Movable(Protocol):
    """What is deployed; see Options."""

    def moved(self, name: str, place: str) -> Self:
        """The same with another checkpoint for the model of this name."""
        ...


T = TypeVar("T", bound=Movable)


class Rolling(Generic[T]):
    """What an application serves at the moment.

    `deploy` returns when all of its replicas serve what it was given; `tried` raises InputError for a model, of
    arguments by its name, that is of no use.
    """

    def __init__(self, args: T, deploy: Callable[[T], None], tried: Callable[[T, str], None]) -> None:
        """Deploy `args`."""
        self.args, self._deploy, self._tried = args, deploy, tried
        deploy(args)

    def take(self, name: str, place: str) -> None:
        """Put another checkpoint in the place of a model; what fails raises, and what was served is served again."""
        before, moved = self.args, self.args.moved(name, place)
        self._tried(moved, name)  # before replicas that answer are given up for it
        try:
            self._deploy(moved)
        except Exception:
            self._deploy(before)
            raise
        self.args = moved
