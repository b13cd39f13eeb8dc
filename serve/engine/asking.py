"""The interface to a model: one request value and one method `ask`, wherever the network runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from models import rle
from models.interaction import Click
from models.rle import Rle
from serve.core.masks import Made
from serve.core.values import Basis

if TYPE_CHECKING:
    from serve.engine.engine import Engine, Session

T = TypeVar("T")
Load = Callable[[], bytes]
"""Fetches a session's image file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """Description and state of a model."""

    model_version: str
    network: str
    refinement: str
    mask_threshold: float = 0.49
    refinements: tuple[str, ...] = ()
    """Names of the refinements that a session may choose."""
    takes_exemplar: bool = False
    healthy: bool = True
    ready: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """The part of a session that its masks depend on."""

    session_id: str | None
    """None: a single request with an image and clicks, of which nothing is cached."""
    basis: Basis
    clicks: tuple[Click, ...] = ()
    load: Load | None = None
    """Fetches the image file if it is needed; None: not available in this process (FileNeeded)."""
    image: np.ndarray | None = None
    """The image if it was just decoded; the caller then holds `Engine.opening`."""


@dataclass(frozen=True, slots=True, eq=False)
class Kind(Generic[T]):
    """A kind of result; `made` computes it from a session that has all its clicks."""

    name: str
    made: "Callable[[Engine, Session, Work], T]"


def _open(engine: "Engine", session: "Session", work: Work) -> None:
    return


def _mask(engine: "Engine", session: "Session", work: Work) -> Made:
    return Made.of(session.runs, session.hw, work.clicks, engine.model_version)


def _probability(engine: "Engine", session: "Session", work: Work) -> np.ndarray:
    return session.levels


def _passes(engine: "Engine", session: "Session", work: Work) -> list[tuple[str, Rle]]:
    return [(name, rle.encode(mask)) for name, mask in engine.passes(session)]


OPEN = Kind("open", _open)
"""No result: does the click-independent work before the first click."""
MASK = Kind("mask", _mask)
PROBABILITY = Kind("probability", _probability)
"""The probability map behind the mask, uint8 (h, w): 0 to 255 for 0 to 1; 0 before the first mask."""
PASSES = Kind("passes", _passes)
"""Name and mask of each pass of the refinement that led to the mask."""
KINDS: dict[str, Kind[Any]] = {kind.name: kind for kind in (OPEN, MASK, PROBABILITY, PASSES)}


class FileNeeded(Exception):
    """This process does not know the session, and the request came without its image file."""


class Model(Protocol):
    """A model, in this process or elsewhere. Methods may take as long as a forward; they raise ModelNan and Problem.

    They ignore `Basis.model`, because serve/engine/fleet.py has already chosen the model by it.
    """

    def info(self) -> ModelInfo:
        """Return the description and state of the model."""
        ...

    def ask(self, kind: Kind[T], work: Work) -> T:
        """Return the result of a session after its clicks. At most one call at a time per session."""
        ...

    def forget(self, session_id: str) -> None:
        """Drop the cached data of a session."""
        ...
