"""Findings of the doctor's checks, and running a check with a time limit and without showing secrets."""

import os
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from models.errors import InputError

Level = Literal["ok", "warning", "failure"]
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
"""Matches names of environment variables whose values must not be shown."""
SHORTEST = 6
"""Minimum length of a secret: replacing shorter values would garble ordinary words."""


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    about: str
    level: Level
    said: str
    do: str = ""
    """What to do about a warning or a failure."""
    node: str = ""
    """Address of the node; empty: the machine that the doctor runs on."""

    def shown(self) -> "Finding":
        """Return the finding without secrets."""
        return replace(self, said=without_secrets(self.said), do=without_secrets(self.do))


Probe = Callable[[], Iterable[Finding]]


def without_secrets(text: str) -> str:
    """Remove keys from addresses, and the values of environment variables that hold secrets."""
    text = re.sub(r"(?<=://)[^/@\s]+@", "", text)
    secrets = {value for name, value in os.environ.items() if SECRET.search(name) and len(value) >= SHORTEST}
    for value in sorted(secrets, key=len, reverse=True):  # one may be part of another
        text = text.replace(value, "***")
    return text


def look(about: str, probe: Probe, seconds: float) -> list[Finding]:
    """Run a check for at most `seconds`; an error and a timeout are failures."""
    found: list[Finding] = []
    done = threading.Event()

    def run() -> None:
        try:
            found.extend(probe())
        except InputError as error:
            found.append(Finding(about, "failure", str(error)))
        except Exception as error:  # any error is a finding
            found.append(Finding(about, "failure", f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"))
        done.set()

    threading.Thread(target=run, name=about, daemon=True).start()
    if done.wait(seconds):
        return [each.shown() for each in found]
    advice = "check whether it is reachable, or raise --seconds"
    late = Finding(about, "failure", f"did not finish within {seconds:g} s", advice)
    return [each.shown() for each in [*found, late]]
