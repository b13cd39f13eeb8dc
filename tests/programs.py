"""Programs of the system that tests drive: a missing one skips its tests, and fails them where CI=true.

A green run of CI says something only of what it ran: there nothing is skipped for want of a program.
"""

import os
import shutil

import pytest

PROGRAMS = {
    "redis-server": ("redis-server",),
    "prometheus": ("promtool",),
    "chromium": ("chromium", "chromium-browser", "google-chrome"),
    "curl": ("curl",),
}
"""Debian's package, and the names that its program goes by."""


def require(package: str) -> str:
    """Path of the program of a package of PROGRAMS; without it the test is skipped, and fails in CI."""
    path = next((path for name in PROGRAMS[package] if (path := shutil.which(name))), None)
    if path is not None:
        return path
    reason = f"{PROGRAMS[package][0]} is not installed: apt-get install {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (a missing program is a failure where CI=true)", pytrace=False)
    pytest.skip(reason)
