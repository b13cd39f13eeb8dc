"""Pass the InputErrors of replicas that do not start to the process that deploys them, through a small named actor."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.exceptions import RayError

from models.errors import InputError

NAME, NAMESPACE = "maskwright-refusals", "maskwright"
GONE = (ValueError, RayError)
"""Errors that Ray raises if the actor does not exist."""

Newest = Callable[[], InputError | None]
"""Returns the newest error, or None, and clears all."""


class _Refusals:
    def __init__(self) -> None:
        self._texts: list[str] = []

    def leave(self, text: str) -> None:
        self._texts.append(text)

    def take(self) -> list[str]:
        found, self._texts = self._texts, []
        return found


@contextmanager
def collecting() -> Iterator[Newest]:
    """Collect the InputErrors of replicas while the block runs; yields a function that returns the newest one."""
    options = {"name": NAME, "namespace": NAMESPACE, "num_cpus": 0, "get_if_exists": True}
    made: Any = ray.remote(_Refusals)
    refusals: Any = made.options(**options).remote()

    def newest() -> InputError | None:
        with suppress(*GONE):
            texts = ray.get(refusals.take.remote())
            return InputError(texts[-1]) if texts else None
        return None

    try:
        yield newest
    finally:
        ray.kill(refusals)


@contextmanager
def refusing() -> Iterator[None]:
    """Pass an InputError of the block to the deploying process, if one waits (with `serve deploy`, none does)."""
    try:
        yield
    except InputError as error:
        with suppress(*GONE):
            waiting: Any = ray.get_actor(NAME, NAMESPACE)
            ray.get(waiting.leave.remote(str(error)))
        raise
