"""Several data sets as one: a file in their folder lists them, each with its reader."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from models.decoding import AS_IT_COMES, Decoding
from models.errors import InputError, unknown
from pipeline.data.readers.folders import list_names, missing_split, require_root
from pipeline.data.sample import BadItem, Item, Reader, Sample

LIST = "several.json"
EXPECTED = f'{LIST}: [{{"reader": "coco", "root": "photos", "options": {{"categories": "person"}}, "every": 2}}, ...]'


@dataclass(frozen=True, kw_only=True)
class Part:
    """One of the data sets. `root` is relative to the list's folder; one of `every` images is read."""

    reader: str
    root: str = ""
    split: str = ""
    options: dict[str, str] = field(default_factory=dict)
    every: int = 1
    name: str = ""
    """Prefix of its ids; empty: the last folder of its root."""


KINDS: dict[str, type[Any]] = {
    "reader": str, "root": str, "split": str, "options": dict, "every": int, "name": str,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Several:
    """The data sets listed in several.json in the folder `root`; ids begin with the data set's name."""

    root: str = ""
    split: str = ""
    decoding: Decoding = AS_IT_COMES

    def __post_init__(self) -> None:
        self.parts()

    def parts(self) -> list[Part]:
        """Read the list; raises InputError if it is not one, or if two data sets have the same name."""
        path = require_root("several", self.root, EXPECTED) / LIST
        if self.split:
            raise missing_split("several", self.split, (), "none, because each data set in the list has its own")
        if not path.is_file():
            raise InputError(f"{self.root!r} holds {list_names(path.parent)}; reader 'several' expects {EXPECTED}")
        try:
            listed = json.loads(path.read_text())
            if not isinstance(listed, list):
                raise TypeError(f"it is a {type(listed).__name__}")
            parts = [_part(path, values) for values in listed]
        except (ValueError, TypeError) as error:
            raise InputError(f"{path} is not a list of data sets: {error}; expected {EXPECTED}") from error
        names = [part.name for part in parts]
        if not parts or len(set(names)) < len(names):
            raise InputError(f"{path} lists data sets named {names}: expected at least one, each `name` once")
        return parts

    @cached_property
    def readers(self) -> dict[str, Reader]:
        """The readers of the data sets, by name."""
        from pipeline.data.readers import open_reader

        return {
            part.name: open_reader(part.reader, part.root or None, part.split, part.options, self.decoding)
            for part in self.parts()
        }

    def items(self) -> Sequence[Item]:
        """List the images of all data sets, sorted."""
        return sorted(
            (_listed(part.name, item) for part in self.parts() for item in self._every(part)), key=lambda item: item.id
        )

    def _every(self, part: Part) -> Sequence[Item]:
        return self.readers[part.name].items()[:: part.every]

    def load(self, item: Item) -> Sample:
        """Open one image with the reader of its data set."""
        name = item.payload["data_set"]
        own = Item(id=item.payload["id"], object_ids=tuple(item.payload["object_ids"]), payload=item.payload["payload"])
        try:
            sample = self.readers[name].load(own)
        except BadItem as error:
            raise BadItem(item.id, error.reason) from error
        objects = tuple(replace(each, id=f"{name}/{each.id}") for each in sample.objects)
        refused = tuple(f"{name}/{text}" for text in sample.refused)
        return replace(sample, id=item.id, objects=objects, refused=refused)


def _listed(name: str, item: Item) -> Item:
    own = {"id": item.id, "object_ids": list(item.object_ids), "payload": item.payload}
    object_ids = tuple(f"{name}/{object_id}" for object_id in item.object_ids)
    return Item(id=f"{name}/{item.id}", object_ids=object_ids, payload={"data_set": name, **own})


def _part(path: Path, values: Any) -> Part:
    if not isinstance(values, dict):
        raise TypeError(f"{values!r} is not an object")
    for key, value in values.items():
        if key not in KINDS:
            raise unknown(f"field of a data set in {path}", key, KINDS)
        if not isinstance(value, KINDS[key]) or isinstance(value, bool):
            raise TypeError(f"{key} is {value!r}, which must be of type {KINDS[key].__name__}")
    if values.get("reader") in (None, "several"):
        raise ValueError(f"reader is {values.get('reader')!r}, which must be the name of another reader")
    part = Part(**values)
    if part.every < 1:
        raise ValueError(f"every is {part.every}, which must be at least 1")
    if odd := [name for name, text in part.options.items() if not isinstance(text, str)]:
        raise TypeError(f"option {odd[0]} is {part.options[odd[0]]!r}, which must be text")
    local = part.root and "://" not in part.root
    root = str((path.parent / Path(part.root).expanduser()).resolve()) if local else part.root
    return replace(part, root=root, name=part.name or Path(part.root).name or part.reader)
