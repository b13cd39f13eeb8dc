"""Record an evaluation's finished work on disk, so that an interrupted one resumes."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from models.errors import InputError
from models.lines import lines_at
from pipeline.evaluation.object_row import ObjectRow
from pipeline.saved import differences


@dataclasses.dataclass(frozen=True, kw_only=True)
class PieceResult:
    """The results of a piece of work: rows and busy seconds by method, and what was refused."""

    rows: dict[str, list[ObjectRow]]
    seconds: dict[str, float]
    refused: list[str]
    forwards: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    """In a sweep: requests to the network, and how many of them were computed."""
    trained_on: dict[str, int] = dataclasses.field(default_factory=dict)
    """Fingerprints of photos that the checkpoint was trained on, by item."""


class Journal:
    """Lines of JSON: the settings, then one line per finished piece, written before the piece counts as done.

    `settings` (see `pipeline.saved.differences`) must be equal at a restart; otherwise it raises InputError and changes
    nothing. `place`: a path or an address (models/lines.py); None: nothing is recorded.
    """

    def __init__(self, place: str | Path | None, settings: Any) -> None:
        self.lines = None if place is None else lines_at(place)
        self.done: dict[tuple[int, int], PieceResult] = {}
        """Results by (part, piece)."""
        if self.lines is None:
            return
        tail = self.lines.tail()
        whole = tail.new()
        head = json.loads(whole[0]) if whole else {}
        if whole and (other := differences(head.get("settings"), settings)):
            raise InputError(
                f"{self.lines} belongs to an evaluation with other settings ({other}): repeat these settings, give "
                "another --out, or remove the file"
            )
        for line in whole[1:]:
            part, piece, result = _read(json.loads(line))
            self.done[part, piece] = result
        if tail.torn or not whole:
            head_alone = [json.dumps({"settings": settings})]
            self.lines.replace([line.rstrip("\n") for line in whole] or head_alone)

    def check(self, images: Callable[[int, int], Collection[str]]) -> None:
        """Check that every result belongs to an image of its (part, piece); raises InputError if one does not.

        Equal settings do not show that a data set's images and their ids are the same as before.
        """
        for (part, piece), result in self.done.items():
            known = images(part, piece)
            other = next((row.item for rows in result.rows.values() for row in rows if row.item not in known), None)
            if other is not None:
                raise InputError(
                    f"{self.lines} holds results of image {other!r}, which is not at this place of the data set: the "
                    "images or their ids have changed; give another --out, or remove the file"
                )

    def add(self, part: int, piece: int, result: PieceResult) -> None:
        """Record a finished piece: on disk when this returns, at an address within seconds.

        Raises InputError if it cannot be written.
        """
        if self.lines is not None:
            rows = {name: [row.to_json() for row in group] for name, group in result.rows.items()}
            self.lines.append({"part": part, "piece": piece, **vars(result), "rows": rows})
        self.done[part, piece] = result

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Flush when the block ends, even with an error."""
        try:
            yield
        finally:
            self.flush()

    def flush(self) -> None:
        """Write everything that was recorded to its place."""
        if self.lines is not None:
            self.lines.flush()

    def close(self) -> None:
        """Remove the file, once the results have been written elsewhere."""
        if self.lines is not None:
            self.lines.remove()


def _read(record: dict[str, Any]) -> tuple[int, int, PieceResult]:
    rows = {name: [ObjectRow.from_json(row) for row in group] for name, group in record["rows"].items()}
    forwards = {name: (asked, computed) for name, (asked, computed) in record.get("forwards", {}).items()}
    result = PieceResult(
        rows=rows,
        seconds=record["seconds"],
        refused=record["refused"],
        forwards=forwards,
        trained_on=record.get("trained_on", {}),
    )
    return record["part"], record["piece"], result
