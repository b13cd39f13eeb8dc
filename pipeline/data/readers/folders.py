"""Find the folders and files of a data set, and build clear errors for those that are missing."""

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from models.errors import InputError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_QUERY = re.compile(r"(\.[A-Za-z]\w{1,4})\?.*", re.DOTALL)


def require_root(reader: str, root: str, expected: str) -> Path:
    """Return the existing folder `root`; raises InputError that says what the reader expects there."""
    if not root:
        raise InputError(f"reader {reader!r} needs a root folder and got none; expected {expected}")
    path = Path(root).expanduser()
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise InputError(f"root {root!r} {what}; reader {reader!r} expects a folder with {expected}")
    return path


def missing_split(reader: str, split: str, known: Iterable[str], expected: str) -> InputError:
    """Build the error for a missing split, with a list of the existing ones."""
    names = sorted(known)
    there = f"splits found: {', '.join(names)}" if names else "no splits were found"
    return InputError(f"reader {reader!r} found no split {split!r}: expected {expected}; {there}")


def list_names(folder: Path) -> list[str]:
    """List the names in a folder for a message, at most 12."""
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    return names[:12] + (["..."] if len(names) > 12 else [])


def list_images(folder: Path) -> list[Path]:
    """List the image files directly in a folder, sorted by name; hidden files are left out."""
    return sorted(path for path in folder.iterdir() if is_image(path.name))


def is_image(name: str) -> bool:
    """Whether a file is an image, judged by its name; hidden files are not."""
    return PurePosixPath(without_query(name)).suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".")


def stem(name: str) -> str:
    """Return a file's name without its suffix, which follows the last dot: `shot_0.10.jpg` becomes shot_0.10."""
    return PurePosixPath(without_query(name)).stem


def without_query(name: str) -> str:
    """Remove the query that a download may leave behind a name: `x.png?X-Amz-Signature=...` becomes x.png."""
    return _QUERY.sub(r"\1", name)


def file_inside(folder: Path, name: str) -> Path:
    """Join a file name from an annotation file to a folder; raises ValueError if it leads out of the folder.

    Only the text is checked, so that data sets of symbolic links stay usable.
    """
    normal = Path(os.path.normpath(name))
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        raise ValueError(f"the file name {name!r} holds half a surrogate pair: no file can have it") from error
    if "\0" in name:
        raise ValueError(f"the file name {name!r} holds a zero byte: no file can have it")
    if not name or normal.is_absolute() or normal.parts[0:1] == ("..",):
        raise ValueError(f"the file name {name!r} leads out of the images folder")
    return folder / normal


def read_name_list(path: Path) -> list[str]:
    """Read a split's list, one name per line, each once and in order; InputError if it is not text or is empty."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the list {str(path)!r} cannot be read: {error}") from error
    names = list(dict.fromkeys(filter(None, lines)))
    if not names:
        raise InputError(f"the list {str(path)!r} is empty: expected one image name per line")
    return names


def stand_in(item_id: str) -> tuple[str, ...]:
    """Return one object id for an item whose objects cannot be listed: an evaluation then loads it and reports why."""
    return (f"{item_id}/unreadable",)
