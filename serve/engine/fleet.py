"""The models of a server, by name: each call goes to the model that the session names."""

import threading
from collections.abc import Mapping
from typing import TypeVar

from serve.core.masks import Made
from serve.core.problems import Problem
from serve.engine.asking import Kind, Model, ModelInfo, Work
from serve.observing.record import note_mask

T = TypeVar("T")


class Fleet:
    """Models of one server. A model can be replaced while it serves; its sessions continue with the new model."""

    def __init__(self, members: Mapping[str, Model], default: str | None = None) -> None:
        """Take at least one model by name; `default`: the model of sessions that name none (None: the first one)."""
        self._members, self._lock = dict(members), threading.Lock()
        self.default = next(iter(self._members)) if default is None else default

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models, the default model first."""
        return (self.default, *(name for name in self._members if name != self.default))

    def replace(self, name: str, model: Model) -> None:
        """Replace a model; calls in progress still get the answer of the old one."""
        with self._lock:
            self._members = {**self._members, name: model}

    def of(self, name: str | None) -> Model:
        """Return the model of this name (None: the default model); raises model_unknown."""
        name = self.default if name is None else name
        found = self._members.get(name)
        if found is None:
            known = ", ".join(self.names)
            raise Problem("model_unknown", f"there is no model {name[:60]!r}: expected one of {known}", "/model")
        return found

    def info(self, name: str | None = None) -> ModelInfo:
        """Return the description and state of a model."""
        return self.of(name).info()

    def ask(self, kind: Kind[T], work: Work) -> T:
        """Call `Model.ask` of the model that the session names."""
        found = self.of(work.basis.model).ask(kind, work)
        if isinstance(found, Made):
            note_mask(work.basis.model or self.default, found.model_version, len(work.clicks))
        return found

    def forget(self, session_id: str, name: str | None = None) -> None:
        """Drop the cached data of a session; does nothing if its model no longer exists."""
        found = self._members.get(self.default if name is None else name)
        if found is not None:
            found.forget(session_id)
