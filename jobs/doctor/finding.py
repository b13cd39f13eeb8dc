"""What a probe found, and probes that end: each has a time limit, and what it says holds no secret."""

import os
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from models.errors import InputError

Level = Literal["ok", "warning", "failure"]
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)
"""In names of environment variables whose values are never shown."""
SHORTEST = 6
"""Shorter values are no secrets, and would blot out words."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    about: str
    level: Level
    said: str
    do: str = ""
    """What to do about a warning or a failure."""
    node: str = ""
    """Address of the machine; empty: the one that asks."""

    def shown(self) -> "Finding":
        """The same without secrets."""
        return replace(self, said=without_secrets(self.said), do=without_secrets(self.do))


Probe = Callable[[], Iterable[Finding]]


def without_secrets(text: str) -> str:
    """Cut the keys out of addresses, and the values of variables whose names promise a secret."""
    text = re.sub(r"(?<=://)[^/@\s]+@", "", text)
    secrets = {value for name, value in os.environ.items() if SECRET.search(name) and len(value) >= SHORTEST}
    for value in sorted(secrets, key=len, reverse=True):  # one may be part of another
        text = text.replace(value, "***")
    return text


def look(about: str, probe: Probe, seconds: float) -> list[Finding]:
    """Run a probe for at most so long; an error, and not having ended, are failures."""
    found: list[Finding] = []
    done = threading.Event()

    def run() -> None:
        try:
            found.extend(probe())
        except InputError as error:
            found.append(Finding(about, "failure", str(error)))
        except Exception as error:  # whatever goes wrong is what the doctor is asked for
            found.append(Finding(about, "failure", f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"))
        done.set()

    threading.Thread(target=run, name=about, daemon=True).start()
    if done.wait(seconds):
        return [each.shown() for each in found]
    advice = "see whether it is reachable, or raise --seconds"
    late = Finding(about, "failure", f"did not end within {seconds:g} s", advice)
    return [each.shown() for each in [*found, late]]
