"""Which models a server has to serve: NAME=SOURCE, one or several. Text in, records out."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from models.box import DEFAULT
from models.errors import InputError

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


def read_sources(texts: Iterable[str]) -> tuple[Source, ...]:
    """Read the models of one or several texts such as "a=/folder,b=models:/clicks@champion"; the first is the default.

    The one without NAME= is called "default"; without any texts it is maskwright:lite_s. Raises InputError for a bad
    name, and one that comes twice.
    """
    found: dict[str, Source] = {}
    for item in (item.strip() for text in list(texts) or [DEFAULT] for item in FURTHER.split(text)):
        source = _source(item)
        if source.name in found:
            which = "have no name" if source.name == ONLY else f"are named {source.name!r}"
            both = f"{found[source.name].place} and {source.place}"
            raise InputError(f"two checkpoints {which}, {both}: {EXPECTED}")
        found[source.name] = source
    return tuple(found.values())


def join_sources(sources: Iterable[Source]) -> str:
    """Write models as one text that `read_sources` reads; raises InputError for folders that no such text can name."""
    sources = tuple(sources)
    text = ",".join(each.place if each.name == ONLY else f"{each.name}={each.place}" for each in sources)
    if read_sources([text]) != sources:
        raise InputError(f"a folder with a comma before a = reads as two: {text}; give it another name")
    return text


def _source(item: str) -> Source:
    name, equals, place = item.partition("=")
    if not equals or "/" in name:  # a folder may have = in its name
        name, place = ONLY, item
    if not NAME.fullmatch(name):
        raise InputError(
            f"{name[:60]!r} cannot name a model: expected up to 40 letters, digits, - and _ "
            "(a folder with = in its name is given as ./FOLDER)"
        )
    if not place:
        raise InputError(f"no checkpoint for {name!r}: {EXPECTED}")
    return Source(name, place)
