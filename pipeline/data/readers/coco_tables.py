"""The lists of a COCO file, sorted by image: in memory, or in a temporary database if the file is large.

A file above STREAM_ABOVE is parsed piece by piece, and SQLite sorts its records, because their order in the file is
free. SQLite uses the disk: memory stays near 130 MB whatever the file's size, and the temporary folder (TMPDIR) holds
up to three times the file until listing ends.
"""

import contextlib
import itertools
import json
import logging
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import InputError
from pipeline.data.readers.coco_files import check_members, id_text, licence_names, read_json
from pipeline.data.readers.json_lists import JsonObject

_logger = logging.getLogger(__name__)

STREAM_ABOVE = 64 << 20  # bytes; read as a whole, a file takes about eight times its size of memory
_PRAGMAS = ("journal_mode=OFF", "synchronous=OFF", "temp_store=FILE", "cache_size=-16384")
_TABLES = {"images": "(id BLOB, record TEXT)", "annotations": "(image BLOB, position INTEGER, record TEXT)"}
_REQUIRED = ("images", "annotations")
_encode = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Annotation:
    """The parts of an annotation that are kept; `position` counts within the file, and "" or None replace missing ones.

    `painted` marks the annotations of CVAT, whose iscrowd means that the mask was painted, not that it is a crowd.
    """

    position: int
    id: str
    category: str
    crowd: bool
    painted: bool
    segmentation: Any


@dataclass(frozen=True)
class Tables:
    """A COCO file: `images` as (id, record) and `annotations` as (image id, annotation), each sorted by that id.

    Both can be read once; `records` returns the images' records alone, in any order and any number of times.
    `first_images` are the first of the file, used to find the images folder. `info` says who wrote the file.
    """

    info: dict[str, Any]
    categories: dict[str, str]
    licences: dict[str, str]
    first_images: list[dict[str, Any]]
    records: Callable[[], Iterator[dict[str, Any]]]
    images: Iterator[tuple[str, dict[str, Any]]]
    annotations: Iterator[tuple[str, Annotation]]


@contextlib.contextmanager
def open_tables(path: Path) -> Iterator[Tables]:
    """Open a COCO file; raises InputError, before it yields, if it is not one or if two images share an id."""
    if path.stat().st_size <= STREAM_ABOVE:
        yield _in_memory(path)
        return
    with tempfile.TemporaryDirectory(prefix="maskwright-") as folder:
        # A generator that lists items may be continued by another thread, but never by two at once.
        database = sqlite3.connect(Path(folder) / "tables.sqlite", isolation_level=None, check_same_thread=False)
        with contextlib.closing(database):
            try:
                yield _on_disk(path, database)
            except sqlite3.Error as error:
                raise InputError(
                    f"{path} could not be sorted in {folder} ({error}): this takes up to three times the "
                    "file's size there; set TMPDIR to use another folder"
                ) from error


def join(path: Path, tables: Tables) -> Iterator[tuple[str, dict[str, Any], list[Annotation]]]:
    """Yield each image with its annotations, in the file's order; a warning counts annotations of unknown images."""
    num_unknown = 0
    waiting = next(tables.annotations, None)
    for image_id, image in tables.images:
        while waiting is not None and waiting[0] < image_id:
            num_unknown += 1
            waiting = next(tables.annotations, None)
        own: list[Annotation] = []
        while waiting is not None and waiting[0] == image_id:
            own.append(waiting[1])
            waiting = next(tables.annotations, None)
        yield image_id, image, own
    num_unknown += (waiting is not None) + sum(1 for _ in tables.annotations)
    if num_unknown:
        _logger.warning("%s: %d annotations of unknown images skipped", path, num_unknown)


def _in_memory(path: Path) -> Tables:
    data = read_json(path, _REQUIRED)
    records = list(_images(path, data["images"]))
    images = sorted(records, key=lambda entry: entry[0])
    for (first, _), (second, _) in itertools.pairwise(images):
        if first == second:
            raise _same_id(path, first)
    annotations = sorted(
        ((image_id, Annotation(*fields)) for image_id, fields in _annotations(data["annotations"])),
        key=lambda entry: (entry[0], entry[1].position),
    )
    return Tables(
        info=_info(data.get("info")),
        categories=_names(data.get("categories")),
        licences=licence_names(data.get("licenses")),
        first_images=[image for _, image in records[:5]],
        records=lambda: iter([image for _, image in records]),
        images=iter(images),
        annotations=iter(annotations),
    )


def _on_disk(path: Path, database: sqlite3.Connection) -> Tables:
    for setting in _PRAGMAS:
        database.execute(f"PRAGMA {setting}")
    database.execute("BEGIN")
    others = _fill(path, database)
    database.execute("COMMIT")
    twice = database.execute("SELECT id FROM images GROUP BY id HAVING COUNT(*) > 1 LIMIT 1").fetchone()
    if twice:
        raise _same_id(path, _text(twice[0]))
    first = database.execute("SELECT record FROM images ORDER BY rowid LIMIT 5")
    return Tables(
        info=_info(others.get("info")),
        categories=_names(others.get("categories")),
        licences=licence_names(others.get("licenses")),
        first_images=[json.loads(record) for (record,) in first],
        records=lambda: (json.loads(record) for (record,) in database.execute("SELECT record FROM images")),
        images=(
            (_text(image_id), json.loads(record))
            for image_id, record in database.execute("SELECT id, record FROM images ORDER BY id")
        ),
        annotations=(
            (_text(image_id), Annotation(*json.loads(record)))
            for image_id, record in database.execute("SELECT image, record FROM annotations ORDER BY image, position")
        ),
    )


def _fill(path: Path, database: sqlite3.Connection) -> dict[str, Any]:
    """Fill the database with images and annotations; returns the small members: categories, licences and info."""
    others: dict[str, Any] = {}
    members: dict[str, bool] = {}
    try:
        with path.open("rb") as file:
            top = JsonObject(file)
            for name, is_list, values in top.members() if top.kind == "dict" else ():
                members[name] = is_list
                if name in _TABLES:  # of a repeated name the last one counts, as for json.load
                    database.execute(f"DROP TABLE IF EXISTS {name}")
                    database.execute(f"CREATE TABLE {name} {_TABLES[name]}")
                if name == "images" and is_list:
                    rows = ((_key(image_id), _encode(image)) for image_id, image in _images(path, values))
                    database.executemany("INSERT INTO images VALUES (?, ?)", rows)
                elif name == "annotations" and is_list:
                    rows = ((_key(image), fields[0], _encode(fields)) for image, fields in _annotations(values))
                    database.executemany("INSERT INTO annotations VALUES (?, ?, ?)", rows)
                elif name in ("categories", "licenses"):
                    others[name] = list(values) if is_list else []
                elif name == "info":
                    others[name] = None if is_list else next(values)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    check_members(path, top.kind, members, _REQUIRED)
    return others


def _images(path: Path, records: Iterable[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    num_without = 0
    for record in records:
        image_id = id_text(record.get("id")) if isinstance(record, dict) else ""
        if image_id:
            yield image_id, record
        else:
            num_without += 1
    if num_without:
        _logger.warning("%s: %d images without an id skipped", path, num_without)


def _annotations(records: Iterable[Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield (image id, fields of Annotation); without an image, an annotation gets the id "", which no image has."""
    for position, record in enumerate(records):
        if not isinstance(record, dict):
            yield "", (position, "", "", False, False, None)
            continue
        attributes = record.get("attributes")
        crowd = str(record.get("iscrowd", 0)).lower() in ("1", "1.0", "true")
        painted = crowd and isinstance(attributes, dict) and "occluded" in attributes
        names = id_text(record.get("id")), id_text(record.get("category_id"))
        yield id_text(record.get("image_id")), (position, *names, crowd, painted, record.get("segmentation"))


def _info(info: Any) -> dict[str, Any]:
    return info if isinstance(info, dict) else {}


def _names(categories: Any) -> dict[str, str]:
    return {
        id_text(category.get("id")): str(category.get("name", category.get("id")))
        for category in (categories if isinstance(categories, list) else [])
        if isinstance(category, dict)
    }


def _key(image_id: str) -> bytes:
    """Return bytes that sort as the text does, also if it holds half a surrogate pair, which JSON allows."""
    return image_id.encode("utf-8", "surrogatepass")


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogatepass")


def _same_id(path: Path, image_id: str) -> InputError:
    return InputError(f"{path}: two images have the id {image_id}; ids must be unique")
