"""Several models at once, by name: each call goes to the model that the session's basis names."""

import threading
from collections.abc import Mapping

import numpy as np

from models.interaction import Click
from models.rle import Rle
from serve.core.made import Made
from serve.core.problems import Problem
from serve.core.values import Basis
from serve.engine.masks import Masks, ModelInfo, Work
from serve.observing.record import note_mask


class Fleet:
    """Models of one server. A model may be replaced while it serves: its sessions go on with the new one's masks."""

    def __init__(self, members: Mapping[str, Masks], default: str | None = None) -> None:
        """Take at least one model by name; `default`: for those who name none, else the first."""
        self._members, self._lock = dict(members), threading.Lock()
        self.default = next(iter(self._members)) if default is None else default

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models; the default one is first."""
        return (self.default, *(name for name in self._members if name != self.default))

    def replace(self, name: str, masks: Masks) -> None:
        """Let another model answer from now on; who asked the one before still gets its answer."""
        with self._lock:
            self._members = {**self._members, name: masks}

    def of(self, name: str | None) -> Masks:
        """The model of this name (None: the default one); raises model_unknown."""
        name = self.default if name is None else name
        found = self._members.get(name)
        if found is None:
            known = ", ".join(self.names)
            raise Problem("model_unknown", f"no model is named {name[:60]!r}: expected one of {known}", "/model")
        return found

    def info(self, name: str | None = None) -> ModelInfo:
        """Which model answers, and whether it does."""
        return self.of(name).info()

    def open(self, session_id: str, data: bytes, image: np.ndarray, basis: Basis) -> None:
        """Do for a new session what needs no click."""
        self.of(basis.model).open(session_id, data, image, basis)

    def mask(self, work: Work) -> Made:
        """The mask that a session has after its clicks."""
        made = self.of(work.basis.model).mask(work)
        note_mask(work.basis.model or self.default, made.model_version, len(work.clicks))
        return made

    def probability(self, work: Work) -> np.ndarray:
        """The probability map of that mask, uint8 (h, w)."""
        return self.of(work.basis.model).probability(work)

    def passes(self, work: Work) -> list[tuple[str, Rle]]:
        """How that mask came about."""
        return self.of(work.basis.model).passes(work)

    def once(self, data: bytes, image: np.ndarray, basis: Basis, clicks: tuple[Click, ...]) -> Made:
        """The mask of clicks on an image that is not kept."""
        made = self.of(basis.model).once(data, image, basis, clicks)
        note_mask(basis.model or self.default, made.model_version, len(clicks))
        return made

    def forget(self, session_id: str, name: str | None = None) -> None:
        """Drop what a model has cached of a session; a model that is not there any more has nothing."""
        found = self._members.get(self.default if name is None else name)
        if found is not None:
            found.forget(session_id)
