"""What a job's processes leave for each other, in a small named actor: refusals, and the wish that the work ends.

Ray wraps the exceptions of workers in others; a text that is left here arrives unchanged.
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
"""What Ray raises where an actor is not there."""


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
    """Where workers of a job leave refusals: the actor's name. Where it is gone, nothing is left and nothing found."""

    name: str

    def leave(self, reason: Exception, *, final: bool = False) -> None:
        """Leave what an error says; `final` where the work ends for it, and trying again would not help."""
        with suppress(*GONE):
            refusals: Any = ray.get_actor(self.name)
            ray.get(refusals.leave.remote(str(reason), final))

    def newest(self, *, final: bool = False) -> InputError | None:
        """Read the newest refusal, of the final ones alone if `final`; None where there is none."""
        with suppress(*GONE):
            refusals: Any = ray.get_actor(self.name)
            text = ray.get(refusals.newest.remote(final))
            return None if text is None else InputError(text)
        return None

    def ask_to_end(self) -> None:
        """Ask the workers to end where they next can."""
        with suppress(*GONE):
            refusals: Any = ray.get_actor(self.name)
            ray.get(refusals.ask_to_end.remote())

    def ends(self) -> bool:
        """Whether they were asked to."""
        with suppress(*GONE):
            refusals: Any = ray.get_actor(self.name)
            return bool(ray.get(refusals.ends.remote()))
        return False

    @contextmanager
    def refusing(self, *, final: bool = False) -> Iterator[None]:
        """Leave an InputError of the block, which is raised all the same."""
        try:
            yield
        except InputError as error:
            self.leave(error, final=final)
            raise


@contextmanager
def outliving(what: str) -> Iterator[None]:
    """Word the death of an actor that Ray does not bring back any more as an InputError."""
    try:
        yield
    except ray.exceptions.ActorDiedError as error:
        if error.actor_init_failed:
            raise
        raise InputError(
            f"{what} died again and again, which a lack of memory may explain, or a file that kills its reader (Ray's "
            "logs say more): use fewer at a time, or leave that file out, and run the same command again to go on"
        ) from error


UNCOLLECTED = Refusals("")
"""Keeps nothing: for work whose driver does not collect refusals."""


@contextmanager
def collecting(name: str = "") -> Iterator[Refusals]:
    """Collect what workers refuse while the block runs, in an actor beside this process; `name`: a name to find it by.

    Raises the newest final refusal when the block has ended, whether Ray raised its own error or none.
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
