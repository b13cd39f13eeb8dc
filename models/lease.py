"""Let one job at a time write a folder, on a disk or at an address; the error of a second job names the first.

On a disk this is a file lock, which the system releases when the process ends. Object stores have no locks, so there it
is an object that its holder renews; if the holder was killed, the object expires after `PATIENCE` seconds.
"""

import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from models.errors import InputError
from models.files import make_folder, refusing
from models.storage import Storage, is_address

NAME = ".in-use"
RENEWED, PATIENCE = 5.0, 16.0
"""Seconds between two renewals, and seconds without a renewal after which a holder counts as gone."""


@contextmanager
def held(place: str | Path) -> Iterator[None]:
    """Hold a folder while the block runs; raises InputError if another job is writing to it."""
    with _held_there(Storage(str(place))) if is_address(place) else _held_here(Path(place)):
        yield


def _refusal(place: str, holder: dict[str, Any]) -> InputError:
    who = f"process {holder.get('pid', '?')} on {holder.get('host', 'another machine')}"
    return InputError(f"{place} is being written by {who}: wait until that job has ended, or name another folder")


def _me() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "token": secrets.token_hex(8)}


@contextmanager
def _held_here(folder: Path) -> Iterator[None]:
    made = not folder.exists()
    path = make_folder(folder) / NAME
    file = _locked(path)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)
            if made:
                folder.rmdir()  # succeeds if the job has written nothing
        file.close()


def _locked(path: Path) -> IO[str]:
    """Open and lock a file, and write this process's name to it."""
    while True:
        with refusing(path):
            file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise _refusal(str(path.parent), _holder(path.read_text())) from None
        except OSError:  # a filesystem without locks
            return file
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            file.truncate(0)
            file.write(json.dumps(_me()))
            file.flush()
            return file
        file.close()  # its holder has just removed it: try again with a new file


@contextmanager
def _held_there(storage: Storage) -> Iterator[None]:
    me = _me()
    _wait(storage, me["host"])
    _renew(storage, me, 0)
    time.sleep(1.0)  # if two jobs begin at once, the last writer holds the folder
    if _read(storage).get("token") != me["token"]:
        raise _refusal(storage.path(), _read(storage))
    ended = threading.Event()
    thread = threading.Thread(target=_keep, args=(storage, me, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(InputError):
            if _read(storage).get("token") == me["token"]:
                storage.remove_file(NAME)


def _wait(storage: Storage, host: str) -> None:
    """Return when the folder is free; raises InputError if its holder renews."""
    found = _read(storage)
    if not found or (found.get("host") == host and not Path(f"/proc/{found.get('pid')}").exists()):
        return
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        time.sleep(0.5)
        now = _read(storage)
        if not now:
            return
        if now != found:
            raise _refusal(storage.path(), now)


def _keep(storage: Storage, me: dict[str, Any], ended: threading.Event) -> None:
    beat = 0
    while not ended.wait(RENEWED):
        beat += 1
        with suppress(InputError):  # the job itself reports that the server is gone
            _renew(storage, me, beat)


def _renew(storage: Storage, me: dict[str, Any], beat: int) -> None:
    storage.write_json(NAME, me | {"beat": beat})


def _read(storage: Storage) -> dict[str, Any]:
    return _holder(storage.read(NAME).decode()) if storage.exists(NAME) else {}


def _holder(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
