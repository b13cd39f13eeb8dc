"""`python -m jobs.backup FILE.db COPY.db`: copy a sessions or MLflow SQLite database while it is in use."""

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jobs.cli import parse, run_job
from models.errors import InputError
from models.files import whole_file


@dataclass(frozen=True)
class BackupConfig:
    """Copy an SQLite database while it is in use. Only you can read the copy; if copying fails, no file is left."""

    source: Annotated[Path, tyro.conf.Positional]
    """SQLite file to copy: the server's sessions, or MLflow's mlflow.db."""
    copy: Annotated[Path, tyro.conf.Positional]
    """File to write; it must not exist yet."""


def main(argv: Sequence[str]) -> None:
    """Parse the arguments and copy the database; raise InputError if that fails."""
    config = parse(BackupConfig, argv, prog="backup")
    if config.copy.exists():
        raise InputError(f"{config.copy} already exists: name a new file, such as sessions-$(date +%F).db")
    os.umask(0o077)
    try:
        size = backup(config.source, config.copy)
    except sqlite3.Error as error:
        raise InputError(f"{config.source} cannot be copied: {error}; expected an existing SQLite file") from error
    print(f"{config.copy}  {size / 1e6:.1f} MB")


def backup(source: Path, copy: Path) -> int:
    """Copy a database with SQLite's backup API and return the size in bytes.

    Raises sqlite3.Error, and InputError if the copy cannot be written.
    """
    uri = f"{source.absolute().as_uri()}?mode=ro"  # read-only: otherwise SQLite would create a missing file
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as database, whole_file(copy) as part:
        database.execute("SELECT count(*) FROM sqlite_master")
        with contextlib.closing(sqlite3.connect(part)) as target:
            database.backup(target)
        return part.stat().st_size


if __name__ == "__main__":
    run_job(main)
