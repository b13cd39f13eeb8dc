"""Append to and follow files of JSON lines, on a disk or at an address.

Object stores cannot append, so at an address the lines of a few seconds are written together as one object
(FILE/000000001 and so on), and a killed process loses the lines of its last few seconds. One process may write at a
time; any number may read.
"""

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.errors import InputError
from models.files import append_line, write
from models.storage import Storage, is_address, split

SECONDS = 3.0
"""Longest time in seconds that a line waits for others before they are written as one object."""


def lines_at(place: str | Path) -> "Lines":
    """Return the lines at a path or an address; the file is created when the first line is appended."""
    return _Segments(str(place)) if is_address(place) or Path(place).is_dir() else _File(Path(place))


class Lines(ABC):
    """Lines of JSON. Every method raises InputError if the filesystem refuses or is gone."""

    @abstractmethod
    def __str__(self) -> str:
        """Return the path or address, for messages."""

    @abstractmethod
    def append(self, entry: Any) -> None:
        """Append an entry: on a disk it is written when this returns, at an address within seconds or at `flush`.

        On a disk, raises InputError if this entry could not be appended. At an address, raises InputError if earlier
        entries could not be written; they are written with the next ones.
        """

    @abstractmethod
    def replace(self, lines: Sequence[str]) -> None:
        """Replace all lines with these, which have no line ends."""

    @abstractmethod
    def remove(self) -> None:
        """Remove all lines, if there are any."""

    @abstractmethod
    def tail(self, *, skip: bool = False) -> "Tail":
        """Follow the lines from the first on; with `skip`, only lines that are appended later."""

    def flush(self) -> None:  # noqa: B027  (a disk needs none)
        """Write all appended entries now."""

    def texts(self) -> list[str]:
        """Read all lines with their line ends; the last one may be cut off and have none."""
        tail = self.tail()
        return [*tail.new(), *([tail.torn] if tail.torn else [])]


class Tail(ABC):
    """Follows lines as they are appended."""

    torn = ""
    """Beginning of a line that was incomplete at the last call of `new`."""

    @abstractmethod
    def new(self) -> list[str]:
        """Return the complete lines that were appended since the last call."""


class _File(Lines):
    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def append(self, entry: Any) -> None:
        append_line(self.path, entry)

    def replace(self, lines: Sequence[str]) -> None:
        write(self.path, "".join(f"{line}\n" for line in lines))

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)

    def tail(self, *, skip: bool = False) -> Tail:
        return _FileTail(self.path, self.path.stat().st_size if skip and self.path.is_file() else 0)


class _FileTail(Tail):
    def __init__(self, path: Path, offset: int) -> None:
        self.path, self.offset = path, offset

    def new(self) -> list[str]:
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            whole, end, torn = file.read().rpartition(b"\n")
        self.offset += len(whole) + len(end)
        self.torn = torn.decode(errors="replace")
        return (whole + end).decode().splitlines(keepends=True)


class _Segments(Lines):
    def __init__(self, place: str) -> None:
        folder, self.name = split(place)
        self.storage = Storage(folder)
        self.lock = threading.Lock()
        self.waiting: list[str] = []
        self.timer: threading.Timer | None = None
        self.failed: InputError | None = None
        self.next = 0

    def __str__(self) -> str:
        return self.storage.path(self.name)

    def append(self, entry: Any) -> None:
        with self.lock:
            failed, self.failed = self.failed, None
            self.waiting.append(json.dumps(entry) + "\n")
            if self.timer is None:
                self.timer = threading.Timer(SECONDS, self._due)
                self.timer.daemon = True
                self.timer.start()
        if failed is not None:
            raise failed

    def flush(self) -> None:
        with self.lock:
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None
            if self.waiting:
                self.next = self.next or max((_number(name) for name in self.names()), default=0) + 1
                self.storage.write(f"{self.name}/{self.next:09d}", "".join(self.waiting).encode())
                self.waiting, self.next = [], self.next + 1

    def replace(self, lines: Sequence[str]) -> None:
        self.remove()
        with self.lock:
            self.waiting = [f"{line}\n" for line in lines]
        self.flush()

    def remove(self) -> None:
        with self.lock:
            self.waiting, self.next = [], 0
            self.storage.remove(self.name)

    def tail(self, *, skip: bool = False) -> Tail:
        return _SegmentsTail(self, set(self.names()) if skip else set())

    def names(self) -> list[str]:
        return self.storage.names(self.name, "")

    def _due(self) -> None:
        with self.lock:
            self.timer = None
        try:
            self.flush()
        except InputError as error:
            self.failed = error


class _SegmentsTail(Tail):
    def __init__(self, lines: _Segments, seen: set[str]) -> None:
        self.lines, self.seen = lines, seen

    def new(self) -> list[str]:
        fresh = [name for name in self.lines.names() if name not in self.seen]
        self.seen.update(fresh)
        return [line for name in fresh for line in self.lines.storage.read(name).decode().splitlines(keepends=True)]


def _number(name: str) -> int:
    return int(name.rpartition("/")[2])
