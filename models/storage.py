"""A folder on any Arrow filesystem: a mounted path, s3://, gs:// or hdfs://. Files appear whole or not at all."""

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

if TYPE_CHECKING:  # where nothing but local files is read, pyarrow is not loaded
    import pyarrow.fs as pafs
    import pyarrow.parquet as pq

FORGOTTEN = 24 * 3600.0
READERS = 16
RESERVED = "%/:?#[]@!$&'()*+,;=~"
"""What stays as it is in an address; spaces and letters beyond ASCII are written %20 and so on for Arrow."""
RETRY = "mend that and run the same command again: what is finished is kept"


@dataclass(frozen=True)
class Storage:
    """The folder `uri`: a path, or an address such as s3://bucket/folder (how to reach it: see docs/PREPARE.md).

    Every method raises InputError, saying what failed and what to do, where the filesystem refuses or is gone.
    """

    uri: str

    def __post_init__(self) -> None:
        _open(self.uri)

    @property
    def is_local(self) -> bool:
        """Whether this is a folder of this machine's own file tree."""
        return "://" not in self.uri or self.uri.startswith("file:")

    def path(self, name: str = "") -> str:
        """Address of the file `name` in the folder, for messages."""
        folder = without_key(self.uri)
        return f"{folder}/{name}" if name else folder

    def exists(self, name: str = "") -> bool:
        """Whether the file or folder is there."""
        import pyarrow.fs as pafs

        return self._info(name).type != pafs.FileType.NotFound

    def names(self, folder: str, suffix: str) -> list[str]:
        """Names (inside the storage) of the files right in `folder` that end in `suffix`, sorted."""
        import pyarrow.fs as pafs

        names = [info.base_name for info in self._list(folder) if info.type == pafs.FileType.File]
        return sorted(f"{folder}/{name}" if folder else name for name in names if name.endswith(suffix))

    def folders(self, folder: str) -> list[str]:
        """Names (inside the storage) of the folders right in `folder`, sorted."""
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
        """Bytes of a file and when it was written (nanoseconds), by which a new one is known; None: it is not there."""
        info = self._info(name)
        return (int(info.size), int(info.mtime_ns or 0)) if info.is_file else None

    @property
    def arrow(self) -> "tuple[pafs.FileSystem, str]":
        """Arrow's filesystem and the folder's path there, for libraries that take the two."""
        return _open(self.uri)

    def below(self, name: str) -> "Storage":
        """The folder `name` in this one."""
        return Storage(joined(self.uri, name))

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[Any]:
        """Give a binary file to read from."""
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
        """What `state` says of every file in the folder, at any depth, by name."""
        import pyarrow.fs as pafs

        root = _open(self.uri)[1]
        infos = (info for info in self._list("", recursive=True) if info.type == pafs.FileType.File)
        return {info.path[len(root) + 1 :]: (int(info.size), int(info.mtime_ns or 0)) for info in infos}

    def read_json(self, name: str) -> Any:
        """Read a JSON file."""
        try:
            return json.loads(self.read(name))
        except ValueError as error:
            raise InputError(f"{self.path(name)} is no JSON: {error}") from error

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        """Give a binary file to write to; it appears under its name when the block ends well, whole, or not at all."""
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
        """Write a whole file; a reader sees the old one or the new one, never a part."""
        with self.writing(name) as file:
            file.write(data)

    def remove(self, folder: str) -> None:
        """Remove a folder and all in it, if it is there."""
        filesystem, root = _open(self.uri)
        try:
            if self.exists(folder):
                filesystem.delete_dir(f"{root}/{folder}")
        except OSError as error:
            raise self._failed("removed", folder, error) from error

    def remove_file(self, name: str) -> None:
        """Remove a file, if it is there."""
        filesystem, root = _open(self.uri)
        try:
            if self.exists(name):
                filesystem.delete_file(f"{root}/{name}")
        except OSError as error:
            raise self._failed("removed", name, error) from error

    def tidy(self) -> None:
        """Remove what writers that were killed have left; no writer may be at work."""
        if self.is_local:
            for part in Path(_open(self.uri)[1]).rglob(f".*{PART}"):
                with contextlib.suppress(OSError):
                    part.unlink()

    @contextlib.contextmanager
    def tidied(self) -> Iterator[None]:
        """Tidy after the block if it fails: the workers of a pool that ends are killed in the middle of a file."""
        try:
            yield
        except BaseException:
            self.tidy()
            raise

    def write_json(self, name: str, value: Any) -> None:
        """Write a value as JSON."""
        self.write(name, (json.dumps(value, indent=1) + "\n").encode())

    def open_parquet(self, name: str) -> "pq.ParquetFile":
        """Open a Parquet file; only its footer is read. InputError if it is none."""
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
            raise self._failed("looked at", name, error) from error

    def _failed(self, verb: str, name: str, error: Exception) -> InputError:
        return InputError(f"{self.path(name)} cannot be {verb}: {error}; {RETRY}")


@lru_cache(maxsize=16)
def _open(uri: str) -> "tuple[pafs.FileSystem, str]":
    """Connect to the filesystem of an address, once per process, and cut the address to its path there."""
    import pyarrow as pa
    import pyarrow.fs as pafs

    try:
        uri.encode()
    except UnicodeEncodeError:
        named = uri.encode("utf-8", "backslashreplace").decode()
        raise InputError(f"{named} is no UTF-8: prepared data sets lie in folders whose names are") from None
    if "://" not in uri:
        return pafs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    try:
        filesystem, path = pafs.FileSystem.from_uri(quote(uri, safe=RESERVED))
    except (pa.ArrowInvalid, OSError, NotImplementedError) as error:
        reason = re.sub(r"(?<=://)[^/@\s]+@", "", str(error))
        raise InputError(
            f"{without_key(uri)} is no address that can be opened: {reason}; expected a path, s3://BUCKET/FOLDER or "
            "another address that Arrow knows"
        ) from error
    if not path.strip("/"):
        raise InputError(f"{without_key(uri)} names no folder: expected s3://BUCKET/FOLDER")
    return filesystem, path.rstrip("/")


def without_key(uri: str) -> str:
    """An address as people may see it: without the key that it may carry, and without settings; a path as it is."""
    if not is_address(uri):
        return uri.rstrip("/") or uri
    scheme, _, rest = uri.split("?")[0].rstrip("/").partition("://")
    return f"{scheme}://{rest.rsplit('@', 1)[-1]}"


def joined(place: str | Path, name: str) -> str:
    """The place `name` in a folder, which is a path or an address (s3://BUCKET/FOLDER?SETTINGS)."""
    if not is_address(place):
        return str(Path(place) / name)
    folder, mark, settings = str(place).partition("?")
    return f"{folder.rstrip('/')}/{name}{mark}{settings}"


def split(place: str | Path) -> tuple[str, str]:
    """Undo `joined`: the folder that a place lies in, and its name there."""
    if not is_address(place):
        return str(Path(place).parent), Path(place).name
    plain, mark, settings = str(place).partition("?")
    folder, _, name = plain.rstrip("/").rpartition("/")
    return folder + mark + settings, name


def is_address(place: str | Path) -> bool:
    """Whether a place is an address such as s3://bucket/folder, not a path."""
    return "://" in str(place)


def refuse_key(place: str) -> None:
    """Raise InputError for an address with a key in it, where others would come to see or keep it."""
    if is_address(place) and "@" in place.split("?")[0]:
        raise InputError(
            f"{without_key(place)} was given with a key, which reports, checkpoints and Ray would keep: give it by the "
            "environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) or the machine's role"
        )


def fetched(uri: str, names: Sequence[str] | None = None) -> Path:
    """Copy files of a folder at an address to this machine, once for each state that they are in; returns the folder.

    `names`: which files; none: all of them.

    Copies lie in the folder for temporary files, for this user alone; several processes may ask for one at once. Those
    that were not asked for in a day are removed. Files that are not there are left out. Raises InputError if the
    filesystem refuses, for an address with a key in it, and where a file changes meanwhile.
    """
    refuse_key(uri)
    storage = Storage(uri)

    def now() -> Mapping[str, tuple[int, int] | None]:
        return storage.states() if names is None else {name: storage.state(name) for name in names}

    states = now()
    if not states:
        raise InputError(f"nothing lies at {storage.path()}")
    key = hashlib.sha256(json.dumps([uri, states], sort_keys=True).encode()).hexdigest()[:24]
    home = Path(tempfile.gettempdir()) / f"maskwright-{os.getuid()}"
    folder = home / "fetched" / key
    if folder.is_dir():
        with contextlib.suppress(OSError):
            os.utime(folder)
        return folder
    with refusing(home):
        make_folder(folder.parent)
        home.chmod(0o700)  # refused where it is another user's
    try:
        _forget(folder.parent)
        with whole_folder(folder) as part:
            there = [name for name, state in states.items() if state is not None]
            with ThreadPoolExecutor(READERS) as pool:  # a bucket answers late, and many at once
                for _ in pool.map(lambda name: write(part / name, storage.read(name)), there):
                    pass
            if states != now():
                raise InputError(f"{storage.path()} changed while it was copied: run the same command again")
    except InputError:
        if not folder.is_dir():  # else another process was sooner
            raise
    return folder


def _forget(copies: Path) -> None:
    """Remove copies that were not asked for in a long time; a training leaves one for each of its validations."""
    for copy in copies.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - copy.stat().st_mtime > FORGOTTEN:
                shutil.rmtree(copy, ignore_errors=True)
