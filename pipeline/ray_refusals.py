"""A mailbox for the processes of a job, in a small named actor: reasons for refusals, and requests to stop.

Ray wraps the exceptions of workers in its own; a message that is left here reaches the driver unchanged.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from models.errors import InputError

GONE = (ValueError, ray.exceptions.RayError)
"""What Ray raises if an actor does not exist."""


class _Refusals:
    def __init__(self) -> None:
        self._left: list[tuple[str, bool]] = []
        self._ends = False

    def leave(self, text: str, final: bool) -> None:
        self._left.append((text, final))

    def ask_to_end(self) -> None:
        self._ends = True

    def ends(self) -> bool:
        return self._ends

    def newest(self, final: bool) -> str | None:
        return next((text for text, ends in reversed(self._left) if ends >= final), None)


@dataclass(frozen=True)
class Refusals:
    """Handle to a job's mailbox, by the actor's name. If the actor is gone, it keeps and returns nothing."""

    name: str

    def leave(self, reason: Exception, *, final: bool = False) -> None:
        """Leave an error's message; `final`: the work must end, because a retry would not help."""
        with suppress(*GONE):
            refusals: Any = ray.get_actor(self.name)
            ray.get(refusals.leave.remote(str(reason), final))

    def newest(self, *, final: bool = False) -> InputError | None:
        """Return the newest refusal, or the newest final one if `final`; None if there is none."""
        with suppress(*GONE):
            refusals: Any = ray.get_actor(self.name)
            text = ray.get(refusals.newest.remote(final))
            return None if text is None else InputError(text)
        return None

    def ask_to_end(self) -> None:
        """Request that the workers stop as soon as they can."""
        with suppress(*GONE):
            refusals: Any = ray.get_actor(self.name)
            ray.get(refusals.ask_to_end.remote())

    def ends(self) -> bool:
        """Whether the workers were requested to stop."""
        with suppress(*GONE):
            refusals: Any = ray.get_actor(self.name)
            return bool(ray.get(refusals.ends.remote()))
        return False

    @contextmanager
    def refusing(self, *, final: bool = False) -> Iterator[None]:
        """Leave an InputError that the block raises, and let it propagate."""
        try:
            yield
        except InputError as error:
            self.leave(error, final=final)
            raise


@contextmanager
def outliving(what: str) -> Iterator[None]:
    """Raise an InputError if an actor died more often than Ray restarts it; `what` names the actor."""
    try:
        yield
    except ray.exceptions.ActorDiedError as error:
        if error.actor_init_failed:
            raise
        raise InputError(
            f"{what} died repeatedly, possibly for lack of memory or because of a file that crashes its reader (see "
            "Ray's logs): use fewer actors or leave the file out, then run the same command again to resume"
        ) from error


UNCOLLECTED = Refusals("")
"""A mailbox that keeps nothing, for work whose driver does not collect refusals."""


@contextmanager
def collecting(name: str = "") -> Iterator[Refusals]:
    """Collect the workers' refusals while the block runs, in an actor on this node; `name`: the actor's name.

    When the block has ended, raises the newest final refusal, whether or not Ray raised an error itself.
    """
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    name = name or f"refusals-{uuid.uuid4().hex[:12]}"
    made: Any = ray.remote(_Refusals)
    refusals: Any = made.options(name=name, num_cpus=0, scheduling_strategy=here).remote()
    collected = Refusals(name)
    try:
        yield collected
    except Exception as error:
        if (refusal := collected.newest(final=True)) is not None:
            raise refusal from error
        raise
    else:
        if (refusal := collected.newest(final=True)) is not None:
            raise refusal
    finally:
        ray.kill(refusals)
