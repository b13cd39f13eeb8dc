"""`python -m jobs.backup FILE.db COPY.db`: copy an SQLite file, of sessions or of MLflow, while others write to it."""

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
    """Copy an SQLite file as it is at one moment, for its owner alone; the copy appears whole or not at all."""

    source: Annotated[Path, tyro.conf.Positional]
    """The server's file of sessions, or MLflow's mlflow.db."""
    copy: Annotated[Path, tyro.conf.Positional]
    """New file; one that is there is kept."""


def main(argv: Sequence[str]) -> None:
    """Copy, or raise InputError."""
    config = parse(BackupConfig, argv, prog="backup")
    if config.copy.exists():
        raise InputError(f"{config.copy} is there already: name a new file, such as sessions-$(date +%F).db")
    os.umask(0o077)
    try:
        size = backup(config.source, config.copy)
    except sqlite3.Error as error:
        raise InputError(f"{config.source} cannot be copied: {error}; expected an SQLite file that is there") from error
    print(f"{config.copy}  {size / 1e6:.1f} MB")


def backup(source: Path, copy: Path) -> int:
    """Copy a database by SQLite's own backup; returns its bytes. Raises sqlite3.Error, and InputError for the disk."""
    uri = f"{source.absolute().as_uri()}?mode=ro"  # else SQLite would make a file that is not there
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as database, whole_file(copy) as part:
        database.execute("SELECT count(*) FROM sqlite_master")
        with contextlib.closing(sqlite3.connect(part)) as target:
            database.backup(target)
        return part.stat().st_size


if __name__ == "__main__":
    run_job(main)
