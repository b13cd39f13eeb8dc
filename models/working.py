"""Working folders for jobs: for a path the folder itself; for an address a temporary folder that is copied there.

Libraries can only write to paths, and their half-written files must not reach a bucket. `put` copies finished files in
the order in which they were finished, so the file that marks a folder as complete (checkpoint.json, summary.json)
arrives last.
"""

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

from models.files import PART, whole_folder, write
from models.storage import Storage, is_address, joined, refuse_key, split, without_key

_ADDRESS, _PREFIX = ".address", "maskwright-"
"""Name of the file with the target address in a temporary folder, and the prefix of such folders."""
_NEW_S = 60.0
"""Age in seconds below which a folder may not be locked by its process yet."""


@contextmanager
def working(place: str | Path) -> Iterator[Path]:
    """Yield the folder to write to; its files are at `place` when the block succeeds.

    Raises InputError for an address that contains a key or cannot be written to.
    """
    if not is_address(place):
        yield Path(place)
        return
    refuse_key(str(place))
    Storage(str(place)).exists()  # an unreachable server is reported before the work
    _forget()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        write(folder / _ADDRESS, str(place))
        with (folder / _ADDRESS).open() as mine:
            fcntl.flock(mine, fcntl.LOCK_EX)  # held as long as this process lives
            yield folder
            put(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _forget() -> None:
    """Remove folders of processes that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_ADDRESS}"):
        with suppress(OSError), path.open() as theirs:
            if time.time() - path.stat().st_mtime > _NEW_S:
                fcntl.flock(theirs, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path.parent, ignore_errors=True)


@contextmanager
def whole_place(place: str | Path) -> Iterator[Path]:
    """Yield a folder to fill; it appears at `place` (absent or an empty folder) only if the block succeeds."""
    with working(place) if is_address(place) else whole_folder(Path(place)) as folder:
        yield folder


@contextmanager
def at_hand(place: str | Path) -> Iterator[Path]:
    """Yield the path of a file to read, which is a temporary copy for an address; raises InputError."""
    if not is_address(place):
        yield Path(place)
        return
    refuse_key(str(place))
    folder, name = split(place)
    name = unquote(name)  # as Arrow reads the folder
    with tempfile.TemporaryDirectory(prefix="maskwright-") as copies:
        write(Path(copies) / name, Storage(folder).read(name))
        yield Path(copies) / name


def place_of(path: Path) -> str:
    """Return the final place of a file or folder: an address if its folder is copied there, else its path."""
    for folder in (path, *path.parents):
        if (folder / _ADDRESS).is_file():
            address, name = (folder / _ADDRESS).read_text(), path.relative_to(folder).as_posix()
            return address if name == "." else joined(address, name)
    return str(path)


def shown(path: Path) -> str:
    """Return the final place of a file or folder for display, without an address's settings."""
    return without_key(place_of(path))


def put(path: Path) -> None:
    """Copy a file, or all files of a folder, to their final place if that is an address; raises InputError."""
    place = place_of(path)
    if not is_address(place):
        return
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    kept = [file for file in files if file.name != _ADDRESS and not file.name.endswith(PART)]
    for file in sorted(kept, key=lambda file: file.stat().st_ctime_ns):  # the time at which it was renamed
        folder, name = Storage(place_of(file.parent)), file.name
        with file.open("rb") as given, folder.writing(name) as made:
            shutil.copyfileobj(given, made, 2**20)
