"""Parse the models that a server serves, one or several NAME=SOURCE, from text into records."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from models.box import DEFAULT
from models.errors import InputError
from models.storage import refuse_key

ONLY = "default"
"""Name of a model that was given without one."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
FURTHER = re.compile(r",\s*(?=[^/,=]*=)")  # a comma within a folder's name is not followed by NAME=
EXPECTED = "expected NAME=FOLDER, NAME=maskwright:MODEL or NAME=models:/name@alias"


@dataclass(frozen=True, slots=True)
class Source:
    """The name of a model and its checkpoint: a folder, maskwright:MODEL or models:/name@alias."""

    name: str
    place: str


def read_sources(given: str | Iterable[str | Source]) -> tuple[Source, ...]:
    """Parse the models in texts such as "a=/folder,b=models:/clicks@champion"; the first is the default model.

    A model without NAME= is called "default"; if `given` is empty, that model is maskwright:lite_s. Raises InputError
    for an invalid or repeated name.
    """
    given = [given] if isinstance(given, str) else list(given) or [DEFAULT]
    found: dict[str, Source] = {}
    for source in (source for each in given for source in ([each] if isinstance(each, Source) else _sources(each))):
        if source.name in found:
            which = "have no name" if source.name == ONLY else f"are named {source.name!r}"
            both = f"{found[source.name].place} and {source.place}"
            raise InputError(f"two checkpoints {which} ({both}): {EXPECTED}")
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
