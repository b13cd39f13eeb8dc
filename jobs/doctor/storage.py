"""Check that a folder or bucket can be written, read, listed and deleted from, and that its clock is right."""

import time
import uuid
from collections.abc import Iterator

from jobs.doctor.finding import Finding
from models.errors import InputError
from models.storage import RETRY, Storage, refuse_key, without_key

SKEW_S = 60.0
"""Difference of clocks in seconds above which the doctor warns; S3 refuses requests at 15 minutes."""


def storage(place: str) -> Iterator[Finding]:
    """Write, read, list and delete a small file in a new folder of `place`, and compare clocks."""
    refuse_key(place)
    about, name = f"storage {without_key(place)}", f".maskwright-doctor-{uuid.uuid4().hex}"
    held = Storage(place).below(name)
    data = uuid.uuid4().bytes
    try:
        held.write("probe", data)
        wrote = time.time()
        if held.read("probe") != data:
            raise InputError(f"{held.path('probe')} does not read back as it was written")
        state = held.state("probe")
        if held.names("", "probe") != ["probe"] or state is None:
            raise InputError(f"{held.path()} does not list what was written to it")
        Storage(place).remove(name)
        if held.state("probe") is not None:
            raise InputError(f"{held.path('probe')} is still there after it was deleted")
    except InputError as error:
        do = "give this machine's role or key s3:PutObject, GetObject, DeleteObject and ListBucket (deploy/aws)"
        if held.is_local:
            do = "give the user that runs jobs write access to the folder, on every node"
        yield Finding(
            about,
            "failure",
            str(error).removesuffix(f"; {RETRY}"),
            do,
        )
        return
    yield Finding(about, "ok", "written, read, listed, deleted")
    yield skew(about, state[1] / 1e9 - wrote)


def skew(about: str, seconds: float) -> Finding:
    """Report how far another clock is ahead of this one, in seconds."""
    said = f"its clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} this one"
    if abs(seconds) < SKEW_S:
        return Finding(about, "ok", said)
    return Finding(about, "warning", said, "synchronise both by NTP (chrony, systemd-timesyncd): S3 refuses 15 minutes")
