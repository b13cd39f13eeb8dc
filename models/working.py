"""The folder that a job writes: a path as it is; for an address a folder on this machine whose files are copied there.

Libraries write to paths, and what they leave half-written must not reach a bucket. `put` copies whole files in the
order in which they were finished, so that what says that a folder is complete (checkpoint.json, summary.json) comes
last.
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
"""In a folder whose files are copied: where to; how such folders begin."""
_NEW_S = 60.0
"""A folder that is younger may not be locked by its process yet."""


@contextmanager
def working(place: str | Path) -> Iterator[Path]:
    """Give the folder to write to; what it holds is at the place when the block ends well.

    Raises InputError for an address with a key in it, or one that cannot be written to.
    """
    if not is_address(place):
        yield Path(place)
        return
    refuse_key(str(place))
    Storage(str(place)).exists()  # a server that is not there is known before the work
    _forget()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        write(folder / _ADDRESS, str(place))
        with (folder / _ADDRESS).open() as mine:
            fcntl.flock(mine, fcntl.LOCK_EX)  # as long as this process lives
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
    """Give a folder to fill; it is at `place`, new or an empty folder, when the block ends well, else nothing is."""
    with working(place) if is_address(place) else whole_folder(Path(place)) as folder:
        yield folder


@contextmanager
def at_hand(place: str | Path) -> Iterator[Path]:
    """Give the path of a file to read: its own, or that of a copy of what lies at an address. Raises InputError."""
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
    """Where a file or a folder belongs: at an address if it lies in a folder that is copied there, else where it is."""
    for folder in (path, *path.parents):
        if (folder / _ADDRESS).is_file():
            address, name = (folder / _ADDRESS).read_text(), path.relative_to(folder).as_posix()
            return address if name == "." else joined(address, name)
    return str(path)


def shown(path: Path) -> str:
    """Where a file or a folder belongs, for people: without settings of an address."""
    return without_key(place_of(path))


def put(path: Path) -> None:
    """Copy a file, or all files of a folder, to where they belong, if that is at an address. Raises InputError."""
    place = place_of(path)
    if not is_address(place):
        return
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    kept = [file for file in files if file.name != _ADDRESS and not file.name.endswith(PART)]
    for file in sorted(kept, key=lambda file: file.stat().st_ctime_ns):  # when it was given its name
        folder, name = Storage(place_of(file.parent)), file.name
        with file.open("rb") as given, folder.writing(name) as made:
            shutil.copyfileobj(given, made, 2**20)
