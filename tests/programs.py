"""System programs that tests need: if one is missing, its tests are skipped, or fail if CI=true.

Tests are not skipped in CI, because a passing run should mean that all of them ran.
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
"""Debian package, and the names of its program."""


def require(package: str) -> str:
    """Return the path of the program of a package in PROGRAMS; without it, skip the test, or fail it in CI."""
    path = next((path for name in PROGRAMS[package] if (path := shutil.which(name))), None)
    if path is not None:
        return path
    reason = f"{PROGRAMS[package][0]} is not installed: apt-get install {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (a missing program is a failure where CI=true)", pytrace=False)
    pytest.skip(reason)
