"""Folders on any Arrow filesystem (a mounted path, s3://, gs:// or hdfs://), with atomic writes of files."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from models.errors import InputError
from models.files import PART, make_folder, refusing, whole_file, whole_folder, write

if TYPE_CHECKING:  # pyarrow is loaded on first use, and not at all by code that only needs paths
    import pyarrow.fs as pafs
    import pyarrow.parquet as pq

FORGOTTEN = 24 * 3600.0
READERS = 16
RESERVED = "%/:?#[]@!$&'()*+,;=~"
"""Characters of an address that are not escaped; spaces and letters beyond ASCII become %20 and so on for Arrow."""
RETRY = "fix that and run the same command again: finished work is kept"


@dataclass(frozen=True)
class Storage:
    """The folder `uri`: a path, or an address such as s3://bucket/folder (docs/PREPARE.md says how to reach it).

    Every method raises InputError, which says what failed and what to do, if the filesystem refuses or is gone.
    """

    uri: str

    def __post_init__(self) -> None:
        _open(self.uri)

    @property
    def is_local(self) -> bool:
        """Whether this is a folder in this machine's file tree."""
        return "://" not in self.uri or self.uri.startswith("file:")

    def path(self, name: str = "") -> str:
        """Return the address of the file `name` in the folder, for messages."""
        folder = without_key(self.uri)
        return f"{folder}/{name}" if name else folder

    def exists(self, name: str = "") -> bool:
        """Whether the file or folder exists."""
        import pyarrow.fs as pafs

        return self._info(name).type != pafs.FileType.NotFound

    def names(self, folder: str, suffix: str) -> list[str]:
        """Return the sorted names (inside the storage) of the files directly in `folder` that end in `suffix`."""
        import pyarrow.fs as pafs

        names = [info.base_name for info in self._list(folder) if info.type == pafs.FileType.File]
        return sorted(f"{folder}/{name}" if folder else name for name in names if name.endswith(suffix))

    def folders(self, folder: str) -> list[str]:
        """Return the sorted names (inside the storage) of the folders directly in `folder`."""
        import pyarrow.fs as pafs

        return sorted(
            f"{folder}/{info.base_name}" for info in self._list(folder) if info.type == pafs.FileType.Directory
        )

    def _list(self, folder: str, *, recursive: bool = False) -> "Sequence[pafs.FileInfo]":
        import pyarrow.fs as pafs

        filesystem, root = _open(self.uri)
        place = f"{root}/{folder}" if folder else root
        try:
            return filesystem.get_file_info(pafs.FileSelector(place, allow_not_found=True, recursive=recursive))
        except OSError as error:
            raise self._failed("listed", folder, error) from error

    def state(self, name: str) -> tuple[int, int] | None:
        """Return a file's size in bytes and time of writing (nanoseconds), to detect changes; None if it is missing."""
        info = self._info(name)
        return (int(info.size), int(info.mtime_ns or 0)) if info.is_file else None

    @property
    def arrow(self) -> "tuple[pafs.FileSystem, str]":
        """Arrow's filesystem and the folder's path in it, for libraries that take both."""
        return _open(self.uri)

    def below(self, name: str) -> "Storage":
        """Return the folder `name` in this one."""
        return Storage(joined(self.uri, name))

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[Any]:
        """Yield a binary file to read from."""
        filesystem, root = _open(self.uri)
        try:
            with filesystem.open_input_file(f"{root}/{name}") as file:
                yield file
        except OSError as error:
            raise self._failed("read", name, error) from error

    def read(self, name: str) -> bytes:
        """Read a whole file."""
        with self.reading(name) as file:
            return file.read()

    def states(self) -> dict[str, tuple[int, int]]:
        """Return the `state` of every file in the folder, at any depth, by name."""
        import pyarrow.fs as pafs

        root = _open(self.uri)[1]
        infos = (info for info in self._list("", recursive=True) if info.type == pafs.FileType.File)
        return {info.path[len(root) + 1 :]: (int(info.size), int(info.mtime_ns or 0)) for info in infos}

    def read_json(self, name: str) -> Any:
        """Read a JSON file."""
        try:
            return json.loads(self.read(name))
        except ValueError as error:
            raise InputError(f"{self.path(name)} is not valid JSON: {error}") from error

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        """Yield a binary file to write to; it appears under its name, complete, only if the block succeeds."""
        filesystem, root = _open(self.uri)
        if self.is_local:
            with whole_file(f"{root}/{name}") as part, part.open("wb") as file:
                yield file
            return
        try:  # an object store shows an object when its upload is complete
            with filesystem.open_output_stream(f"{root}/{name}", compression=None) as file:
                yield file
        except OSError as error:
            raise self._failed("written", name, error) from error

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically: readers see the old one or the new one, never a part."""
        with self.writing(name) as file:
            file.write(data)

    def remove(self, folder: str) -> None:
        """Remove a folder and its contents, if it exists."""
        filesystem, root = _open(self.uri)
        try:
            if self.exists(folder):
                filesystem.delete_dir(f"{root}/{folder}")
        except OSError as error:
            raise self._failed("removed", folder, error) from error

    def remove_file(self, name: str) -> None:
        """Remove a file, if it exists."""
        filesystem, root = _open(self.uri)
        try:
            if self.exists(name):
                filesystem.delete_file(f"{root}/{name}")
        except OSError as error:
            raise self._failed("removed", name, error) from error

    def tidy(self) -> None:
        """Remove the temporary files of killed writers; call it only while nothing writes to the folder."""
        if self.is_local:
            for part in Path(_open(self.uri)[1]).rglob(f".*{PART}"):
                with contextlib.suppress(OSError):
                    part.unlink()

    @contextlib.contextmanager
    def tidied(self) -> Iterator[None]:
        """Tidy after the block if it fails: a pool that ends kills its workers in the middle of a file."""
        try:
            yield
        except BaseException:
            self.tidy()
            raise

    def write_json(self, name: str, value: Any) -> None:
        """Write a value as JSON."""
        self.write(name, (json.dumps(value, indent=1) + "\n").encode())

    def open_parquet(self, name: str) -> "pq.ParquetFile":
        """Open a Parquet file and read only its footer; raises InputError for other files."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        filesystem, root = _open(self.uri)
        try:
            return pq.ParquetFile(f"{root}/{name}", filesystem=filesystem, pre_buffer=not self.is_local)
        except (OSError, pa.ArrowInvalid) as error:
            raise self._failed("read", name, error) from error

    def _info(self, name: str) -> "pafs.FileInfo":
        filesystem, root = _open(self.uri)
        try:
            return filesystem.get_file_info(f"{root}/{name}" if name else root)
        except OSError as error:
            raise self._failed("accessed", name, error) from error

    def _failed(self, verb: str, name: str, error: Exception) -> InputError:
        return InputError(f"{self.path(name)} cannot be {verb}: {error}; {RETRY}")


@lru_cache(maxsize=16)
def _open(uri: str) -> "tuple[pafs.FileSystem, str]":
    """Connect to the filesystem of an address, once per process; return it and the path in it."""
    import pyarrow as pa
    import pyarrow.fs as pafs

    try:
        uri.encode()
    except UnicodeEncodeError:
        named = uri.encode("utf-8", "backslashreplace").decode()
        raise InputError(f"{named} is not valid UTF-8: choose a folder whose name is") from None
    if "://" not in uri:
        return pafs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    scheme, _, rest = uri.partition("://")
    if "//" in rest.split("?")[0].rstrip("/"):
        raise InputError(f"{without_key(uri)} has an empty name between two slashes: expected s3://BUCKET/FOLDER")
    try:
        filesystem, path = pafs.FileSystem.from_uri(f"{scheme.lower()}://{quote(rest, safe=RESERVED)}")
    except (pa.ArrowInvalid, OSError, NotImplementedError) as error:
        reason = re.sub(r"(?<=://)[^/@\s]+@", "", str(error))
        raise InputError(
            f"{without_key(uri)} cannot be opened: {reason}; expected a path, s3://BUCKET/FOLDER or another address "
            "that Arrow supports"
        ) from error
    if not path.strip("/"):
        raise InputError(f"{without_key(uri)} names no folder: expected s3://BUCKET/FOLDER")
    return filesystem, path.rstrip("/")


def without_key(uri: str) -> str:
    """Return an address for display, without its key and settings; a path is returned unchanged."""
    if not is_address(uri):
        return uri.rstrip("/") or uri
    scheme, _, rest = uri.split("?")[0].partition("://")
    return f"{scheme}://{rest.rstrip('/').rsplit('@', 1)[-1]}"


def joined(place: str | Path, name: str) -> str:
    """Join a folder, which is a path or an address (s3://BUCKET/FOLDER?SETTINGS), and a name in it."""
    if not is_address(place):
        return str(Path(place) / name)
    folder, mark, settings = str(place).partition("?")
    return f"{folder.rstrip('/')}/{name}{mark}{settings}"


def split(place: str | Path) -> tuple[str, str]:
    """Split a path or address into its folder and its name there, as the inverse of `joined`."""
    if not is_address(place):
        return str(Path(place).parent), Path(place).name
    plain, mark, settings = str(place).partition("?")
    folder, _, name = plain.rstrip("/").rpartition("/")
    return folder + mark + settings, name


def is_address(place: str | Path) -> bool:
    """Whether a place is an address such as s3://bucket/folder and not a path."""
    return "://" in str(place)


def refuse_key(place: str) -> None:
    """Raise InputError for an address with a key in it, which would be displayed or stored with it."""
    if is_address(place) and "@" in place.split("?")[0]:
        raise InputError(
            f"{without_key(place)} was given with a key, which reports, checkpoints and Ray would store: pass the key "
            "in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), or use the machine's role"
        )


def fetched(uri: str, names: Sequence[str] | None = None) -> Path:
    """Copy the files of a folder at an address to this machine, once per state of the files, and return the copy.

    `names` selects files; None copies all. Missing files are left out. Copies are in the system's temporary folder,
    readable by this user only, and are removed after a day without use. Several processes may call this at once.
    Raises InputError if the filesystem refuses, if the address contains a key, or if a file changes meanwhile.
    """
    refuse_key(uri)
    storage = Storage(uri)

    def now() -> Mapping[str, tuple[int, int] | None]:
        return storage.states() if names is None else {name: storage.state(name) for name in names}

    states = now()
    if not states:
        raise InputError(f"there are no files at {storage.path()}: expected a folder with files")
    key = hashlib.sha256(json.dumps([uri, states], sort_keys=True).encode()).hexdigest()[:24]
    home = Path(tempfile.gettempdir()) / f"maskwright-{os.getuid()}"
    folder = home / "fetched" / key
    if folder.is_dir():
        with contextlib.suppress(OSError):
            os.utime(folder)
        return folder
    with refusing(home):
        make_folder(folder.parent)
        home.chmod(0o700)  # fails if it belongs to another user
    try:
        _forget(folder.parent)
        with whole_folder(folder) as part:
            there = [name for name, state in states.items() if state is not None]
            with ThreadPoolExecutor(READERS) as pool:  # a bucket responds slowly, but to many requests at once
                for _ in pool.map(lambda name: write(part / name, storage.read(name)), there):
                    pass
            if states != now():
                raise InputError(f"{storage.path()} changed while it was being copied: run the same command again")
    except InputError:
        if not folder.is_dir():  # else another process was faster
            raise
    return folder


def _forget(copies: Path) -> None:
    """Remove copies that were not used for a day; a training run leaves one for each of its validations."""
    for copy in copies.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - copy.stat().st_mtime > FORGOTTEN:
                shutil.rmtree(copy, ignore_errors=True)
