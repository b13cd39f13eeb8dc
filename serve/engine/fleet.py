"""Several models at once, by name: each call goes to the model that the session's basis names."""

import threading
from collections.abc import Mapping
from typing import TypeVar

from serve.core.masks import Made
from serve.core.problems import Problem
from serve.engine.asking import Kind, Model, ModelInfo, Work
from serve.observing.record import note_mask

T = TypeVar("T")


class Fleet:
    """Models of one server. A model may be replaced while it serves: its sessions go on with the new one's masks."""

    def __init__(self, members: Mapping[str, Model], default: str | None = None) -> None:
        """Take at least one model by name; `default`: for those who name none, else the first."""
        self._members, self._lock = dict(members), threading.Lock()
        self.default = next(iter(self._members)) if default is None else default

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models; the default one is first."""
        return (self.default, *(name for name in self._members if name != self.default))

    def replace(self, name: str, model: Model) -> None:
        """Let another model answer from now on; who asked the one before still gets its answer."""
        with self._lock:
            self._members = {**self._members, name: model}

    def of(self, name: str | None) -> Model:
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

    def ask(self, kind: Kind[T], work: Work) -> T:
        """Ask the model that the session names; see Model.ask."""
        found = self.of(work.basis.model).ask(kind, work)
        if isinstance(found, Made):
            note_mask(work.basis.model or self.default, found.model_version, len(work.clicks))
        return found

    def forget(self, session_id: str, name: str | None = None) -> None:
        """Drop what a model has cached of a session; a model that is not there any more has nothing."""
        found = self._members.get(self.default if name is None else name)
        if found is not None:
            found.forget(session_id)
