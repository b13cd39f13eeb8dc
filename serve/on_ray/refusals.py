"""What a replica could not use of what it was given, left with a small named actor for the process that waits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import ray
from ray.exceptions import RayError

from models.errors import InputError

NAME, NAMESPACE = "maskwright-refusals", "maskwright"
GONE = (ValueError, RayError)
"""What Ray raises where an actor is not there."""

Newest = Callable[[], InputError | None]
"""Takes the newest refusal; None where there is none."""


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
    """Collect what replicas refuse while the block runs; yields a function that takes the newest refusal."""
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
    """Leave an InputError of the block for the process that waits; with `serve deploy` there is none."""
    try:
        yield
    except InputError as error:
        with suppress(*GONE):
            waiting: Any = ray.get_actor(NAME, NAMESPACE)
            ray.get(waiting.leave.remote(str(error)))
        raise
