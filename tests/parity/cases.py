"""What a fixture folder holds, as cases: found by file name and content, never by a list."""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

Deviations = dict[str, float]


class Arrays(Mapping[str, np.ndarray]):
    """The arrays of one NPZ file, opened when first asked for; pickled ones are refused."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _file(self) -> Any:
        return np.load(self.path, allow_pickle=False)

    def __getitem__(self, key: str) -> np.ndarray:
        return self._file[key]

    def __iter__(self) -> Any:
        return iter(self._file.files)

    def __len__(self) -> int:
        return len(self._file.files)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to replay: `key` is its index or name in the file, `record` what the file says of it."""

    path: Path
    content: dict[str, Any]
    key: Any
    record: Any

    @cached_property
    def arrays(self) -> Arrays:
        name = self.record.get("file") if isinstance(self.record, dict) else None
        return Arrays(self.path.with_name(name) if name else self.path.with_suffix(".npz"))

    @property
    def id(self) -> str:
        return f"{self.path.stem}-{self.key}"

    def array(self, name: str) -> np.ndarray:
        """Array `name` of a case in a numbered file."""
        return self.arrays[f"c{self.key}_{name}"]

    def unpacked(self, name: str, hw: tuple[int, int]) -> np.ndarray:
        """Bool mask that was stored by numpy.packbits."""
        return unpacked(self.array(name), hw)


def unpacked(bits: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Undo numpy.packbits of a row-major mask."""
    return np.unpackbits(bits, count=hw[0] * hw[1]).reshape(hw).astype(bool)


def each_case(content: dict[str, Any]) -> Iterable[tuple[Any, Any]]:
    """Split by `cases`, which is a list or an object."""
    cases = content["cases"]
    return list(cases.items()) if isinstance(cases, dict) else list(enumerate(cases))


def whole_file(content: dict[str, Any]) -> Iterable[tuple[Any, Any]]:
    """Take the file as one case."""
    return [("all", content)]


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of fixture: how to know it, how to split it, how to replay a case (returns the deviations it met)."""

    stem: str
    """Pattern of the file's stem."""
    fields: frozenset[str]
    """Fields that the content (or its first case) has."""
    replay: Callable[[Case], Deviations]
    split: Callable[[dict[str, Any]], Iterable[tuple[Any, Any]]] = each_case
    not_built: Callable[[Case], str | None] = field(default=lambda case: None)
    """Name of what a case needs that the project does not build yet."""

    def fits(self, content: Any) -> bool:
        if not isinstance(content, dict):
            return False
        cases = content.get("cases", {})
        listed = list(cases.values() if isinstance(cases, dict) else cases)
        first = listed[0] if listed and isinstance(listed[0], dict) else {}
        return self.fields <= content.keys() | first.keys()


def kind_of(stem: str, content: Any, kinds: Mapping[str, Kind]) -> str | None:
    """Name of a fixture's kind: what the content fits; the stem decides where that is several. None: unknown."""
    fitting = [name for name, kind in kinds.items() if kind.fits(content)]
    named = [name for name in fitting if re.fullmatch(kinds[name].stem, stem)]
    candidates = named or fitting
    return candidates[0] if len(candidates) == 1 else None


def read(path: Path) -> Any:
    """Parse a JSON file; what is no JSON comes back as None, hence as an unknown kind."""
    try:
        return json.loads(path.read_text())
    except ValueError:
        return None


def discover(folder: Path, kinds: Mapping[str, Kind]) -> list[tuple[str, Case]]:
    """All (kind, case) below a folder, by path; the kind is "unknown" or "empty" where there is nothing to replay."""
    found: list[tuple[str, Case]] = []
    for path in sorted(folder.rglob("*.json")):
        content = read(path)
        name = kind_of(path.stem, content, kinds)
        split = list(kinds[name].split(content)) if name is not None else []
        for key, record in split:
            found.append((str(name), Case(path=path, content=content, key=key, record=record)))
        if not split:
            bad = "unknown" if name is None else "empty"
            found.append((bad, Case(path=path, content={}, key=bad, record=None)))
    return found
