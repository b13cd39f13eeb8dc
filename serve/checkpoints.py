"""The checkpoints of one server's process: folders as they are, registered models as copies that it keeps and drops."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from serve.model_source import SCHEME, impatient, pin, resolve


class Checkpoints:
    """Finds checkpoints, and copies registered ones to folders under `home`, for replicas of this machine to read."""

    def __init__(self, registry: str | None, home: Path) -> None:
        """`registry`: the MLflow registry's URI, where a source needs one."""
        self._registry, self._home, self._num = registry, home, 0

    def pin(self, place: str) -> str:
        """Where a source leads now; raises InputError."""
        with impatient():
            return pin(place, self._registry)

    def load(self, pinned: str) -> str:
        """Absolute path of a checkpoint's folder, on this machine; raises InputError.

        Ray's workers start in other folders, so what they are told must not depend on this one.
        """
        self._num += 1
        into = self._home / str(self._num)
        if pinned.startswith(SCHEME):
            into.mkdir()
        return str(resolve(pinned, self._registry, into).resolve())

    def keep(self, places: Iterable[str]) -> None:
        """Drop all copies but those that `places` are in."""
        used = {Path(place) for place in places}
        for copy in self._home.resolve().iterdir():
            if not any(copy in (place, *place.parents) for place in used):
                shutil.rmtree(copy)
