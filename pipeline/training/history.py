"""Read the lines that a run has appended to its history and its validations."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from models.lines import lines_at


def entries_of(lines: Iterable[str]) -> Iterator[dict[str, float]]:
    """Parse lines of JSON into entries; skip a line that a killed worker left incomplete."""
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "step" in entry:
            yield entry


def read_entries(place: str | Path) -> list[dict[str, float]]:
    """Read the entries at a path or an address, in order; empty if nothing is there."""
    return list(entries_of(lines_at(place).texts()))


def read_history(place: str | Path) -> list[dict[str, float]]:
    """Read a run's metrics, ordered by step; if a restart repeated a step, its later entry counts."""
    return [entry for _, entry in sorted({entry["step"]: entry for entry in read_entries(place)}.items())]
