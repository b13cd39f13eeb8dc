"""Command line of every job: flags parsed into dataclasses by tyro, and user errors shown without a traceback."""

import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from models import flags
from models.box import is_name
from models.errors import InputError, find_input_error, lookup
from models.lease import held
from models.records import Record
from models.storage import Storage, is_address, refuse_key, without_key
from models.working import working
from pipeline.saved import as_dict as as_dict  # re-exported for the jobs
from pipeline.saved import from_dict as from_dict

T = TypeVar("T")


class Flagged(Record):
    """A record whose fields are flags and are named as flags in error messages."""

    @classmethod
    def label(cls, field: str) -> str:
        """Return the flag of a field."""
        return f"--{field.replace('_', '-')}"


def run_job(main: Callable[[Sequence[str]], int | None]) -> None:
    """Run a job's `main(argv)` and exit with its status; an InputError is printed as one line with status 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for file names that the terminal cannot show
    try:
        sys.exit(main(sys.argv[1:]) or 0)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        meant = find_input_error(error)
        if meant is None:
            raise
        print(f"error: {meant}", file=sys.stderr)
        sys.exit(2)


def parse(kind: type[T], argv: Sequence[str], *, prog: str, default: T | None = None, description: str = "") -> T:
    """Parse flags into a dataclass; `default` provides the default values."""
    return flags.parse(kind, argv, prog=f"python -m jobs.{prog}", default=default, description=description)


def take_preset(argv: Sequence[str], presets: Mapping[str, Callable[[], T]], prog: str) -> tuple[str, T, list[str]]:
    """Split `PRESET --flags...` into the preset's name, its config and the flags.

    Prints the list of presets if none is given. Raises InputError for a missing or an unknown preset.
    """
    if not argv or argv[0] in ("-h", "--help") or argv[0].startswith("-"):
        print(f"usage: python -m jobs.{prog} PRESET [--flags]   (all flags: python -m jobs.{prog} PRESET --help)\n")
        for name, preset in presets.items():
            print(f"  {name:<36} {(preset.__doc__ or '').strip().splitlines()[0]}")
        if argv and argv[0] in ("-h", "--help"):
            sys.exit(0)
        given = f"got {argv[0]!r}" if argv else "got nothing"
        raise InputError(f"{given}: expected one of the presets above as the first argument")
    return argv[0], lookup("preset", argv[0], presets)(), list(argv[1:])


def absolute_path(flag: str, given: str | Path) -> Path:
    """Make a path absolute, and refuse a relative one inside a submitted job.

    A job submitted with `ray job submit` runs in a temporary copy of the working directory, which is deleted.
    Raises InputError also for an address and for the name of a model that comes with Maskwright.
    """
    if is_name(given):
        raise InputError(f"{flag} {given}: expected a path, not the name of a model that comes with Maskwright")
    if is_address(given):
        raise InputError(
            f"{flag} {without_key(str(given))}: expected a path on this machine; docs/STORAGE.md lists what addresses "
            "can be used for"
        )
    path = Path(given).expanduser()
    if not path.is_absolute() and "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        raise InputError(
            f"{flag} {given}: expected an absolute path under `ray job submit`, where the working directory is a "
            "temporary copy; use a path that all nodes share"
        )
    return path.absolute()


def new_folder(flag: str, given: str) -> str:
    """Make the path of an output folder absolute, or keep an address; raises InputError if it is not empty."""
    place = out_place(flag, given)
    path = Path(place)
    if is_address(place):
        taken = Storage(place).exists()
    else:
        taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
    if taken:
        raise InputError(f"{flag} {without_key(given)} exists and is not an empty folder: name another one")
    return place


def checkpoint_source(flag: str, given: str | Path) -> str:
    """Make a checkpoint's path absolute; keep a name (maskwright:NAME) or an address, which every node can read."""
    return str(given) if is_name(given) or is_address(given) else str(absolute_path(flag, given))


def location(flag: str, given: str) -> str:
    """Keep an address (s3://BUCKET/FOLDER) and make a path absolute, for flags that take both."""
    if re.match(r"[a-z][a-z0-9+]+:/+(?!/)", given, re.IGNORECASE) and not is_address(given):
        raise InputError(f"{flag} {given}: expected an address with two slashes, such as s3://BUCKET/FOLDER")
    return given if is_address(given) else str(absolute_path(flag, given))


def out_place(flag: str, given: str) -> str:
    """Return an output folder as `location` does; raises InputError for an address that contains a key."""
    refuse_key(given)
    return location(flag, given)


@contextmanager
def writing(flag: str, given: str) -> Iterator[Path]:
    """Yield the local folder for a job's output, and hold it: no other job can write it meanwhile.

    For an address this is a working folder (models/working.py). Raises InputError for an address that contains a key,
    and for a folder that another job is writing.
    """
    place = out_place(flag, given)
    with working(place) as folder, held(place):
        yield folder


def data_root(flag: str, given: str | None) -> str | None:
    """Return the location of a data set, an absolute path or an address; None if not given."""
    return None if given is None else location(flag, given)


def progress_line(label: str, done: int, total: int, note: str = "") -> None:
    """Print progress: on a terminal one line that is overwritten, otherwise a line at each tenth."""
    text = f"{label}: {done}/{total}{'  ' + note if note else ''}"
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="\n" if done == total else "", flush=True)
    elif done == total or done * 10 // total > (done - 1) * 10 // total:
        print(text, flush=True)
