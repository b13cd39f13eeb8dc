"""Write files atomically, and turn errors of the disk into an InputError that says what to do.

Jobs write every file that they keep with these functions: to a temporary file beside it, which is flushed to disk and
then renamed.
"""

import errno
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from models.errors import InputError, is_full

PART = ".part"
"""Suffix of temporary files and folders; those of killed writers remain."""
_ADVICE = {
    errno.EISDIR: "name a file",
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY), "choose another path"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "choose a path that you may write to"),
    errno.ENOSPC: "make room there and run the same command again",
}


@contextmanager
def refusing(path: str | Path) -> Iterator[None]:
    """Turn every OSError of the block, which writes `path`, into an InputError."""
    try:
        yield
    except OSError as error:
        number = errno.ENOSPC if is_full(error) else error.errno
        advice = _ADVICE.get(number or 0, "fix that and run the same command again")
        raise InputError(f"{path} cannot be written: {error.strerror or error}; {advice}") from error


def make_folder(path: str | Path) -> Path:
    """Create a folder and its parents if they are missing; raises InputError."""
    with refusing(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    return Path(path)


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it is flushed to disk and renamed to `path` when the block succeeds.

    Raises InputError for every OSError, also of the block; `path` is then unchanged and the temporary file is removed.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f".{secrets.token_hex(8)}{PART}")
    with refusing(path):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.touch()
            mode = stat.S_IMODE((target if target.exists() else part).stat().st_mode)
            yield part
            _sync(part)
            if stat.S_IMODE(part.stat().st_mode) != mode:  # safetensors creates files that only the owner can read
                part.chmod(mode)
            part.replace(target)
            _sync(target.parent)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; it is renamed to `path` (absent or an empty folder) when the block succeeds.

    Raises InputError for every OSError, also of the block; the temporary folder is then removed.
    """
    part = path.with_name(f".{secrets.token_hex(8)}{PART}")
    with refusing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.mkdir()
            yield part
            for inside in (*part.rglob("*"), part):
                _sync(inside)
            part.replace(path)
            _sync(path.parent)
        except InputError as error:
            raise InputError(str(error).replace(str(part), str(path))) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)


def write(path: str | Path, data: bytes | str) -> None:
    """Write a file atomically, text as UTF-8; raises InputError."""
    with whole_file(path) as part:
        part.write_bytes(data.encode("utf-8", "backslashreplace") if isinstance(data, str) else data)


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as JSON; raises InputError."""
    write(path, json.dumps(value, indent=2) + "\n")


def write_image(path: str | Path, image: np.ndarray, quality: int = 95) -> None:
    """Write uint8 grey or RGB in the format of the name's suffix, .png or .jpg; raises InputError."""
    write(path, encoded(path, image, quality))


def encoded(path: str | Path, image: np.ndarray, quality: int = 95) -> bytes:
    """Encode uint8 grey or RGB in the format of a name's suffix, .png or .jpg; raises InputError."""
    import cv2

    suffix, pixels = Path(path).suffix, image if image.ndim == 2 else image[..., ::-1]
    # OpenCV prints a warning for an option that a format does not have.
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix.lower() in (".jpg", ".jpeg") else []
    done, data = cv2.imencode(suffix, pixels, options)
    if not done:  # the sides of a JPEG have at most 65500 pixels
        raise InputError(f"{path} cannot be written: no {suffix} can hold {image.shape[1]} x {image.shape[0]} pixels")
    return data.tobytes()


def append_line(path: Path, entry: Any) -> None:
    """Append an entry to a file of JSON lines and flush it to disk; raises InputError, with the file unchanged.

    If a killed writer left half a line, the entry starts on a new line.
    """
    with refusing(path):
        number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(number).st_size
            start = "" if not size or os.pread(number, 1, size - 1) == b"\n" else "\n"
            line = f"{start}{json.dumps(entry)}\n".encode()
            try:
                while line:
                    line = line[os.write(number, line) :]
                os.fsync(number)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(number, size)
                raise
        finally:
            os.close(number)


def _sync(path: Path) -> None:
    """Flush a file, or a folder's entries, to disk; some filesystems cannot do this for folders."""
    if path.is_dir() and not os.access(path, os.R_OK):
        return
    number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(number)
