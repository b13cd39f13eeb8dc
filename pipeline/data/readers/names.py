"""Find files whose names differ from the given ones only in form, as people and programs write them.

The exact name is tried first. Only if no file has it, the forms in WAYS are tried in turn, and a file is used if it is
the only one that fits; if two fit, the name is refused. The names found this way are reported in one line.
"""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from models.errors import InputError
from pipeline.data.notices import warn_once
from pipeline.data.readers.folders import file_inside, without_query

_WORDS = re.compile(r"(.+?)(?:\.[^\d.][^.]*)+", re.DOTALL)


def _decoded(name: str) -> str:
    return unquote(name, errors="surrogateescape")


def _bare(name: str) -> str:
    return _decoded(without_query(name))


def _query(name: str) -> str:
    return name.removeprefix(without_query(name))


def _lower(name: str) -> str:
    return _bare(name).casefold()


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", _bare(name)).casefold())


QUERY = "a query behind the name"
WAYS: dict[str, Callable[[str], str]] = {
    "percent-encoding": _decoded,
    QUERY: _bare,
    "letter case": _lower,
    "composed letters": _composed,
}
"""Forms under which names are equal, by what they ignore; each also ignores what those before it do."""
WORDS = "words between dots"


@dataclass
class Found:
    """Names that were found under another form."""

    counts: Counter[str] = field(default_factory=Counter)
    """Number of names, by way."""
    examples: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The first (name, file's name) of each way."""

    def add(self, way: str, name: str, there: str) -> None:
        """Count one name; an exact one (`way` "") does not count."""
        if way:
            self.counts[way] += 1
            self.examples.setdefault(way, (name, there))

    def add_queries(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Count pairs of files, given by both names, that match because a query was removed from one of them."""
        for name, there in pairs:
            if _query(name) != _query(there):
                self.add(QUERY, name, there)

    def report(self, logger: str, where: object) -> None:
        """Warn once about the names found; silent if all names are exact."""
        if self.counts:
            ways = (
                f"{way}: {count}, such as {_shown(self.examples[way][1])} for {_shown(self.examples[way][0])}"
                for way, count in self.counts.items()
            )
            text = f"{self.counts.total()} names match no file exactly; files whose names differ only in form are used"
            warn_once(logger, f"{where}: {text} ({'; '.join(ways)})")


def _shown(name: str) -> str:
    """Return a name for messages, without its query, which may be a key."""
    return repr(f"{bare}?..." if (bare := without_query(name)) != name else name)


class Names:
    """Existing names, such as those in a folder, that can be found in any of the forms in WAYS."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._by_form: dict[str, dict[str, list[str]]] = {}

    def find(self, name: str) -> tuple[str, str] | None:
        """Return the existing name and the way that led to it ("" if exact), or None; ValueError if several fit."""
        if name in self._names:
            return name, ""
        for way, form in WAYS.items():
            if way not in self._by_form:
                found: dict[str, list[str]] = {}
                for there in self._names:
                    found.setdefault(form(there), []).append(there)
                self._by_form[way] = found  # assigned when complete, as threads may read it
            fitting = self._by_form[way].get(form(name), [])
            if len(fitting) > 1:
                raise several([name], fitting)
            if fitting:
                return fitting[0], way
        return None


def several(names: Collection[str], there: Collection[str]) -> ValueError:
    """Build the error for names that fit several files, or for files that fit several names."""
    wanted, found = (", ".join(map(repr, sorted(some)[:4])) for some in (names, there))
    return ValueError(f"{wanted} may refer to {found}: rename them to match exactly")


def names_in(folder: Path) -> Names:
    """Return the names in a folder, listed once until it changes; none if it is not a folder."""
    try:
        return _listed(str(folder), folder.stat().st_mtime_ns)
    except (OSError, ValueError):  # it is gone, or no file can have its name
        return Names(())


@lru_cache(maxsize=64)
def _listed(folder: str, stamp: int) -> Names:
    return Names(entry.name for entry in Path(folder).iterdir())


def seek(folder: Path, name: str) -> tuple[Path, str] | None:
    """Return the file that a name or relative path refers to inside a folder, and the way that led to it, or None.

    Raises ValueError if several fit, or if the name leads out of the folder.
    """
    path = file_inside(folder, name)
    # It returns False for a name that is too long, where Path.is_file raises.
    if os.path.isfile(path):  # noqa: PTH113
        return path, ""
    # A query may hold slashes, and so may a decoded name.
    for form in dict.fromkeys((name, _bare(name))):
        here, way = folder, ""
        for part in file_inside(Path(), form).parts:
            found = names_in(here).find(part)
            if found is None:
                break
            here, way = here / found[0], found[1] or way
        else:
            if os.path.isfile(here):  # noqa: PTH113
                return here, way or ("percent-encoding" if without_query(name) == name else QUERY)
    return None


def find_file(folder: Path, name: str) -> Path:
    """Return the file that a name refers to inside a folder, else its exact path; raises ValueError as `seek` does."""
    found = seek(folder, name)
    return found[0] if found else file_inside(folder, name)


def report_names(logger: str, folder: Path, names: Iterable[str]) -> None:
    """Warn once about the names that are in a folder under another form; ambiguous ones are left to `find_file`.

    Raises InputError if two names refer to one file and one of them only in another form.
    """
    wanted, there, found = list(names), names_in(folder), Found()
    repaired: dict[str, str] = {}
    for name in wanted:
        try:
            hit = there.find(name)
        except ValueError:
            continue
        if hit:
            found.add(hit[1], name, hit[0])
            repaired |= {name: hit[0]} if hit[1] else {}
    for name, reason in rivals(repaired.items(), wanted).items():
        raise InputError(f"{folder}: {_shown(name)}: {reason}")
    found.report(logger, folder)


def rivals(repaired: Iterable[tuple[str, str]], literal: Iterable[str]) -> dict[str, str]:
    """Return, by name, why names do not get the files to which they refer in another form: others refer to them.

    `repaired` holds (name, file) of each of these names. A file belongs to its exact name if that is in `literal`,
    otherwise to the only name that refers to it.
    """
    names: dict[str, dict[str, None]] = {}
    for name, file in repaired:
        names.setdefault(file, {})[name] = None
    owned = {file for file in literal if file in names} if names else set()
    reasons: dict[str, str] = {}
    for file, group in names.items():
        here = Path(file).name
        others = [here] * (file in owned) + list(group)
        if len(others) > 1:
            for name in group:
                other = _shown(next(each for each in others if each != name))
                reasons[name] = (
                    f"no file has exactly this name; {here!r} differs from it only in form, but {other} refers to that "
                    "file too: rename them to match exactly"
                )
    return reasons


@dataclass
class Pairs:
    """Names that belong together: `of` maps names to existing ones, `faults` maps names to why several fit."""

    of: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    found: Found = field(default_factory=Found)

    def first_fault(self) -> str:
        """Return the end of a message: why the first ambiguous name has no partner, "" if there is none."""
        return next((f"; {reason}" for reason in self.faults.values()), "")


def pair(names: Iterable[str], there: Iterable[str], *, words: bool = False) -> Pairs:
    """Pair each name with an existing one: the same, or the only one that is equal in a form of WAYS, each used once.

    With `words`, `12` and `12.seg` are also a pair if no other fits, and so are all `N.rgb` and `N.seg` of a data set.
    """
    left, right = dict.fromkeys(names), dict.fromkeys(there)
    pairs = Pairs(of={name: name for name in left if name in right})
    for name in pairs.of:
        del left[name], right[name]
    ways = {**WAYS, WORDS: _without_words} if words else WAYS
    for way, form in ways.items():
        fitting = [group for group in _groups(left, right, form) if way != WORDS or _belong(*group, left, right)]
        for ours, theirs in fitting:
            if len(ours) == len(theirs) == 1:
                pairs.of[ours[0]] = theirs[0]
                pairs.found.add(way, ours[0], theirs[0])
            else:
                pairs.faults |= dict.fromkeys(ours, str(several(ours, theirs)))
            for name in ours:
                del left[name]
            for name in theirs:
                del right[name]
    return pairs


def _groups(
    left: Iterable[str], right: Iterable[str], form: Callable[[str], str]
) -> Iterator[tuple[list[str], list[str]]]:
    """Return the names of both sides that have the same form."""
    groups: dict[str, tuple[list[str], list[str]]] = {}
    for side, names in enumerate((left, right)):
        for name in names:
            groups.setdefault(form(name), ([], []))[side].append(name)
    return iter([group for group in groups.values() if all(group)])


def _without_words(name: str) -> str:
    """Remove the parts after dots that are not numbers: seg of 12.seg, but not 10 of shot_0.10."""
    match = _WORDS.fullmatch(name)
    return _composed(match[1] if match else name)


def _belong(ours: list[str], theirs: list[str], left: Collection[str], right: Collection[str]) -> bool:
    """Whether names that are equal without their words match: one has none, or all names of each side have the same."""
    if any(_without_words(name) == _composed(name) for name in (*ours, *theirs)):
        return True
    words = [{_composed(name).removeprefix(_without_words(name)) for name in side} for side in (left, right)]
    return len(left) > 1 and all(len(some) == 1 for some in words)


def report_new_ids(logger: str, where: object, ids: Iterable[tuple[str, str]]) -> None:
    """Warn once if the ids of a data set, given as (earlier versions', current), have changed since earlier versions.

    Silent if the earlier ids were not unique, because such a data set was refused.
    """
    pairs = list(ids)
    changed = [(before, now) for before, now in pairs if before != now]
    if changed and len({before for before, _ in pairs}) == len(pairs):
        before, now = changed[0]
        warn_once(
            logger,
            f"{where}: {len(changed)} names hold a dot; their ids are now the whole names ({now!r}) instead of the "
            f"part before the dot ({before!r}), so results of earlier versions have other ids for these images",
        )
