"""The checkpoints of one server process: folders are used in place, registered models as temporary copies."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from models.errors import InputError
from serve.loading.model_source import SCHEME, checked, fetch, impatient, pin


class Checkpoints:
    """Find checkpoints, and copy registered ones to folders under `home`, where replicas on this machine read them."""

    def __init__(self, registry: str | None, home: Path) -> None:
        """`registry`: URI of the MLflow registry, if a source needs one."""
        self._registry, self._home, self._num = registry, home, 0

    def pin(self, place: str) -> str:
        """Return the source with its alias resolved to the current version; raises InputError."""
        with impatient():
            return pin(place, self._registry)

    def load(self, pinned: str) -> str:
        """Return a folder like `fetch`; raises InputError if it is not a checkpoint."""
        return str(checked(Path(self.fetch(pinned)), pinned))

    def fetch(self, pinned: str) -> str:
        """Return the absolute path of a folder on this machine, whether or not it is a checkpoint; raises InputError.

        The path is absolute because Ray's workers start in other folders.
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
        """Delete all copies except those that contain `places`."""
        used = {Path(place) for place in places}
        for copy in self._home.resolve().iterdir():
            if not any(copy in (place, *place.parents) for place in used):
                shutil.rmtree(copy)
