"""Read a data set in a bucket with a reader for files: its folder is copied once to each machine that reads it."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from models.errors import InputError
from models.storage import fetched, refuse_key, without_key
from pipeline.data.notices import warn_once
from pipeline.data.sample import Item, Reader, Sample


class Copied:
    """The reader that `open_at` makes for a folder, here for a copy of `root`; it can be sent to other machines.

    Raises InputError as `models.storage.fetched` does, and what the reader raises.
    """

    def __init__(self, root: str, open_at: Callable[[str], Reader]) -> None:
        refuse_key(root)
        self.root, self.open_at = root, open_at
        self.listed = ""
        """The copy whose items were listed, maybe on another machine."""
        self._opened: tuple[str, Reader] | None = None

    def _here(self) -> tuple[str, Reader]:
        """Return the copy on this machine, and its reader."""
        if self._opened is None:
            shown = without_key(self.root)
            warn_once(__name__, f"{shown} is copied to this machine; data that jobs.prepare wrote is read in place")
            folder = str(fetched(self.root))
            with self._named(folder):
                self._opened = folder, self.open_at(folder)
        return self._opened

    @contextmanager
    def _named(self, folder: str) -> Iterator[None]:
        """Rename the copy to the given root in the reader's errors."""
        try:
            yield
        except InputError as error:
            raise InputError(str(error).replace(folder, without_key(self.root))) from error

    def items(self) -> Sequence[Item]:
        """List the images."""
        self.listed, reader = self._here()
        with self._named(self.listed):
            return reader.items()

    def load(self, item: Item) -> Sample:
        """Open one image."""
        folder, reader = self._here()
        listed = self.listed or folder
        if listed != folder:
            item = dataclasses.replace(item, payload=_moved(item.payload, listed, folder))
        return reader.load(item)

    def __getattr__(self, name: str) -> Any:
        """Pass on what else the reader offers, such as `stream`."""
        if name.startswith("_") or name in ("root", "open_at", "listed"):
            raise AttributeError(name)
        self.listed, reader = self._here()
        return getattr(reader, name)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the copy: another machine makes its own."""
        return {"root": self.root, "open_at": self.open_at, "listed": self.listed, "_opened": None}


def _moved(value: Any, old: str, new: str) -> Any:
    """Replace the paths of a payload by those of another copy."""
    if isinstance(value, str):
        return new + value[len(old) :] if value.startswith(old) else value
    if isinstance(value, dict):
        return {key: _moved(part, old, new) for key, part in value.items()}
    return [_moved(part, old, new) for part in value] if isinstance(value, list | tuple) else value
