"""The command line of every job: typed flags from dataclasses (tyro), and errors for people without a traceback."""

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
from pipeline.saved import as_dict as as_dict  # handed on to the jobs
from pipeline.saved import from_dict as from_dict

T = TypeVar("T")


class Flagged(Record):
    """A record whose fields are flags: messages call them so."""

    @classmethod
    def label(cls, field: str) -> str:
        """The flag of a field."""
        return f"--{field.replace('_', '-')}"


def run_job(main: Callable[[Sequence[str]], int | None]) -> None:
    """Run a job's `main(argv)` and exit: 0, or 2 with one clear message if what the user gave cannot be used."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names that a terminal cannot show are spelled out
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
    """Parse flags into a dataclass, `default` giving the defaults."""
    return flags.parse(kind, argv, prog=f"python -m jobs.{prog}", default=default, description=description)


def take_preset(argv: Sequence[str], presets: Mapping[str, Callable[[], T]], prog: str) -> tuple[str, T, list[str]]:
    """Split `PRESET --flags...`; lists the presets when none is given. Raises InputError for an unknown one."""
    if not argv or argv[0] in ("-h", "--help") or argv[0].startswith("-"):
        print(f"usage: python -m jobs.{prog} PRESET [--flags]   (all flags: python -m jobs.{prog} PRESET --help)\n")
        for name, preset in presets.items():
            print(f"  {name:<36} {(preset.__doc__ or '').strip().splitlines()[0]}")
        if argv and argv[0] in ("-h", "--help"):
            sys.exit(0)
        given = f"{argv[0]!r} came first" if argv else "nothing was given"
        raise InputError(f"the first argument names a preset ({given})")
    return argv[0], lookup("preset", argv[0], presets)(), list(argv[1:])


def absolute_path(flag: str, given: str | Path) -> Path:
    """Make a path absolute in the process the user started; refuse a relative one inside a submitted job.

    A job submitted with `ray job submit` runs in a temporary copy of the working directory, which is deleted.
    """
    if is_name(given):
        raise InputError(f"{flag} {given}: expected a path; a name stands for a model that comes with Maskwright")
    if is_address(given):
        raise InputError(
            f"{flag} {without_key(str(given))}: expected a path that this machine has mounted; docs/STORAGE.md says "
            "what may lie at an address"
        )
    path = Path(given).expanduser()
    if not path.is_absolute() and "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        raise InputError(
            f"{flag} {given}: expected an absolute path under `ray job submit`, where the working directory is a "
            "temporary copy; a path that all nodes share is best"
        )
    return path.absolute()


def new_folder(flag: str, given: str) -> str:
    """Make the path of a folder to write absolute, or take an address; raises InputError if something is there."""
    place = out_place(flag, given)
    path = Path(place)
    if is_address(place):
        taken = Storage(place).exists()
    else:
        taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
    if taken:
        raise InputError(f"{flag} {without_key(given)} is taken: expected a new or an empty folder")
    return place


def checkpoint_source(flag: str, given: str | Path) -> str:
    """Make a checkpoint's path absolute; a name (maskwright:NAME) and an address stay: every node can read those."""
    return str(given) if is_name(given) or is_address(given) else str(absolute_path(flag, given))


def location(flag: str, given: str) -> str:
    """Take an address (s3://BUCKET/FOLDER) as it is and make a path absolute, for what may lie in a bucket."""
    if re.match(r"[a-z][a-z0-9+]+:/+(?!/)", given, re.IGNORECASE) and not is_address(given):
        raise InputError(f"{flag} {given}: an address has two slashes, as s3://BUCKET/FOLDER")
    return given if is_address(given) else str(absolute_path(flag, given))


def out_place(flag: str, given: str) -> str:
    """Take where a job writes, as `location`; raises InputError for an address with a key in it."""
    refuse_key(given)
    return location(flag, given)


@contextmanager
def writing(flag: str, given: str) -> Iterator[Path]:
    """Give the folder that a job writes, here or for an address (models/working.py); no other job may write it.

    Raises InputError for an address with a key in it, and for a folder that another job is writing.
    """
    place = out_place(flag, given)
    with working(place) as folder, held(place):
        yield folder


def data_root(flag: str, given: str | None) -> str | None:
    """Where a data set lies: an absolute path or an address; None if not given."""
    return None if given is None else location(flag, given)


def progress_line(label: str, done: int, total: int, note: str = "") -> None:
    """Show progress: one line rewritten on a terminal, a line at each tenth elsewhere."""
    text = f"{label}: {done}/{total}{'  ' + note if note else ''}"
    if sys.stdout.isatty():
        print(f"\r\033[K{text}", end="\n" if done == total else "", flush=True)
    elif done == total or done * 10 // total > (done - 1) * 10 // total:
        print(text, flush=True)
