"""Choose a temporary folder for Ray whose path is short enough for sockets, which the system limits to 107 bytes."""

import hashlib
import os
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

from models.errors import InputError

MOST = 107
BELOW = "/ray/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""Longest path that Ray appends to its folder."""
PLACES = ("/tmp", "/var/tmp", "/dev/shm", "~")
"""Folders in which a short link may be created, in order of preference."""


def prepare_ray_tmpdir(environ: MutableMapping[str, str] = os.environ) -> None:
    """Set RAY_TMPDIR to a usable folder if Ray's default folder is not usable; raises InputError if there is none.

    Ray uses RAY_TMPDIR, else TMPDIR, else /tmp. If that path is too long, RAY_TMPDIR becomes a short link to it; if
    Ray's folder in it belongs to another user, RAY_TMPDIR becomes a private folder beside it. TMPDIR is replaced by its
    link too, because Ray's dashboard creates sockets there and takes a minute to fail without them.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if environ.get(name)), "TMPDIR")
    wanted = Path(environ.get(name) or "/tmp").expanduser().absolute()
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        shared = wanted / "ray" if (wanted / "ray").exists() else wanted
        usable = wanted if os.access(shared, os.W_OK | os.X_OK) else private_folder(wanted)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{name}={wanted} cannot be used: {reason}; set it to a folder that can be written") from error
    folder = usable if fits(usable) else shortened(usable)
    if folder is None:
        raise InputError(
            f"{name}={wanted} is too long for Ray's sockets, and no short link to it could be created in "
            f"{', '.join(PLACES)}: set RAY_TMPDIR to a path of at most {MOST - len(BELOW)} bytes"
        )
    if folder != wanted:
        environ["RAY_TMPDIR"] = str(folder)
    if environ.get("TMPDIR") and not fits(temporary := Path(environ["TMPDIR"]).absolute()):
        environ["TMPDIR"] = str(shortened(temporary) or temporary)


def fits(folder: Path) -> bool:
    """Whether a path is short enough for the sockets below it."""
    return len(os.fsencode(folder)) + len(BELOW) <= MOST


def shortened(folder: Path) -> Path | None:
    """Return a short link to a folder, always the same, in a folder private to this user; None if none can be made."""
    for place in PLACES:
        with suppress(OSError, RuntimeError):
            home = private_folder(Path(place).expanduser())
            for old in home.iterdir():
                if old.is_symlink() and not old.exists():  # batch systems create and remove a folder for each job
                    old.unlink(missing_ok=True)
            link = home / hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
            with suppress(FileExistsError):
                link.symlink_to(folder)
            if fits(link) and link.readlink() == folder:
                return link
    return None


def private_folder(place: Path) -> Path:
    """Return this user's folder in `place`, which others cannot enter; raises OSError if it cannot be created."""
    folder = place / f"maskwright-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    if found.st_mode & 0o077:
        folder.chmod(0o700)
    return folder
