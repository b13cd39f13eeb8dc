"""What a model is asked for, and by whom it is answered: one request value, one `ask`, wherever the network is."""

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
    """Which model answers."""

    model_version: str
    network: str
    refinement: str
    mask_threshold: float = 0.49
    refinements: tuple[str, ...] = ()
    """What a session may choose instead."""
    takes_exemplar: bool = False
    healthy: bool = True
    ready: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Work:
    """A session as those who make its masks see it."""

    session_id: str | None
    """None: an image with clicks, of which nothing is kept."""
    basis: Basis
    clicks: tuple[Click, ...] = ()
    load: Load | None = None
    """Fetches the image file, should it be needed; None: it is not at hand here (FileNeeded)."""
    image: np.ndarray | None = None
    """The image as it was just decoded; the caller holds `Engine.opening`."""


@dataclass(frozen=True, slots=True, eq=False)
class Kind(Generic[T]):
    """What can be asked for; `made` of a session that has its clicks."""

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
"""Nothing: what needs no click is done before the first one."""
MASK = Kind("mask", _mask)
PROBABILITY = Kind("probability", _probability)
"""The probability map behind the mask, uint8 (h, w): 0 to 255 for 0 to 1; 0 before the first mask."""
PASSES = Kind("passes", _passes)
"""How the mask came about: name and mask after each pass of the refinement."""
KINDS: dict[str, Kind[Any]] = {kind.name: kind for kind in (OPEN, MASK, PROBABILITY, PASSES)}


class FileNeeded(Exception):
    """The session is not known here, and its image file did not come with the request."""


class Model(Protocol):
    """What runs a model, here or elsewhere. Methods may take as long as a forward; they raise ModelNan and Problem.

    They disregard `Basis.model`: serve/engine/fleet.py finds the model that it names.
    """

    def info(self) -> ModelInfo:
        """Which model answers, and whether it does."""
        ...

    def ask(self, kind: Kind[T], work: Work) -> T:
        """What a session has after its clicks. One call at a time for each session."""
        ...

    def forget(self, session_id: str) -> None:
        """Drop what is cached of a session."""
        ...
