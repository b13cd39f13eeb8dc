"""The checkpoints of one server's process: folders as they are, registered models as copies that it keeps and drops."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from models.errors import InputError
from serve.loading.model_source import SCHEME, checked, fetch, impatient, pin


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
        """Like `fetch`, and raises InputError for what is no checkpoint."""
        return str(checked(Path(self.fetch(pinned)), pinned))

    def fetch(self, pinned: str) -> str:
        """Absolute path of a folder on this machine, be it a checkpoint or not; raises InputError.

        Ray's workers start in other folders, so what they are given must not depend on this one.
        """
        self._num += 1
        into = self._home / str(self._num)
        if pinned.startswith(SCHEME):
            into.mkdir()
        try:
            return str(fetch(pinned, self._registry, into).resolve())
        except InputError:
            shutil.rmtree(into, ignore_errors=True)
            raise

    def keep(self, places: Iterable[str]) -> None:
        """Drop all copies but those that `places` are in."""
        used = {Path(place) for place in places}
        for copy in self._home.resolve().iterdir():
            if not any(copy in (place, *place.parents) for place in used):
                shutil.rmtree(copy)
