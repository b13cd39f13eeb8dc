"""A temporary folder whose path leaves room for sockets: the system allows them 107 bytes, however long TMPDIR is."""

import hashlib
import os
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

from models.errors import InputError

MOST = 107
BELOW = "/ray/session_2000-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""What Ray puts below its folder, as long as it gets."""
PLACES = ("/tmp", "/var/tmp", "/dev/shm", "~")
"""Where a short path may begin, in this order."""


def prepare_ray_tmpdir(environ: MutableMapping[str, str] = os.environ) -> None:
    """Name a folder in RAY_TMPDIR that a Ray which starts here can use, if its own choice is none; raises InputError.

    Ray takes RAY_TMPDIR, else TMPDIR, else /tmp. What it writes stays in that folder: one whose path is too long is
    reached through a link. Where Ray's folder in it belongs to another user, it is one of this user's beside that.
    TMPDIR is named by its link too: Ray's dashboard makes sockets there, and without them takes a minute to give up.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if environ.get(name)), "TMPDIR")
    wanted = Path(environ.get(name) or "/tmp").expanduser().absolute()
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        shared = wanted / "ray" if (wanted / "ray").exists() else wanted
        usable = wanted if os.access(shared, os.W_OK | os.X_OK) else private_folder(wanted)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{name}={wanted} cannot be used: {reason}; name a folder that can be written") from error
    folder = usable if fits(usable) else shortened(usable)
    if folder is None:
        raise InputError(
            f"{name}={wanted} is too long a path for the sockets of Ray, and no short link to it could be made below "
            f"{', '.join(PLACES)}: set RAY_TMPDIR to a folder of {MOST - len(BELOW)} bytes at most"
        )
    if folder != wanted:
        environ["RAY_TMPDIR"] = str(folder)
    if environ.get("TMPDIR") and not fits(temporary := Path(environ["TMPDIR"]).absolute()):
        environ["TMPDIR"] = str(shortened(temporary) or temporary)


def fits(folder: Path) -> bool:
    """Whether a path leaves room for the sockets below it."""
    return len(os.fsencode(folder)) + len(BELOW) <= MOST


def shortened(folder: Path) -> Path | None:
    """A short link to a folder, always the same, where no other user can put one; None if there is no such place."""
    for place in PLACES:
        with suppress(OSError, RuntimeError):
            home = private_folder(Path(place).expanduser())
            for old in home.iterdir():
                if old.is_symlink() and not old.exists():  # batch systems make a folder for each job, and remove it
                    old.unlink(missing_ok=True)
            link = home / hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
            with suppress(FileExistsError):
                link.symlink_to(folder)
            if fits(link) and link.readlink() == folder:
                return link
    return None


def private_folder(place: Path) -> Path:
    """A folder in `place` of this user's that others cannot enter; raises OSError if there can be none."""
    folder = place / f"maskwright-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    if found.st_mode & 0o077:
        folder.chmod(0o700)
    return folder
