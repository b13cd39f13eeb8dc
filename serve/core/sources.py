"""Which models a server has to serve: NAME=SOURCE, one or several. Text in, records out."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from models.box import DEFAULT
from models.errors import InputError
from models.storage import refuse_key

ONLY = "default"
"""Name of the model that was given none."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
FURTHER = re.compile(r",\s*(?=[^/,=]*=)")  # a folder's own commas are followed by no NAME=
EXPECTED = "expected NAME=FOLDER, NAME=maskwright:MODEL or NAME=models:/name@alias"


@dataclass(frozen=True, slots=True)
class Source:
    """A model by name, and its checkpoint: a folder, maskwright:MODEL or models:/name@alias."""

    name: str
    place: str


def read_sources(given: str | Iterable[str | Source]) -> tuple[Source, ...]:
    """Read the models of one or several texts such as "a=/folder,b=models:/clicks@champion"; the first is the default.

    The one without NAME= is called "default"; where nothing is given it is maskwright:lite_s. Raises InputError for a
    bad name, and one that comes twice.
    """
    given = [given] if isinstance(given, str) else list(given) or [DEFAULT]
    found: dict[str, Source] = {}
    for source in (source for each in given for source in ([each] if isinstance(each, Source) else _sources(each))):
        if source.name in found:
            which = "have no name" if source.name == ONLY else f"are named {source.name!r}"
            both = f"{found[source.name].place} and {source.place}"
            raise InputError(f"two checkpoints {which}, {both}: {EXPECTED}")
        found[source.name] = source
    return tuple(found.values())


def _sources(text: str) -> list[Source]:
    return [_source(item.strip()) for item in FURTHER.split(text)]


def _source(item: str) -> Source:
    name, equals, place = item.partition("=")
    if not equals or "/" in name:  # a folder may have = in its name
        name, place = ONLY, item
    if not NAME.fullmatch(name):
        raise InputError(
            f"{name[:60]!r} cannot name a model: expected up to 40 letters, digits, - and _ "
            "(a folder with = in its name is given as ./FOLDER)"
        )
    refuse_key(place)
    if not place:
        raise InputError(f"no checkpoint for {name!r}: {EXPECTED}")
    return Source(name, place)
