"""Find the JSON and the images of a COCO data set in the layouts of COCO itself, CVAT, Label Studio and Roboflow."""

import contextlib
import json
import os.path
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from models.errors import InputError
from pipeline.data.readers.folders import file_inside, list_names, missing_split
from pipeline.data.readers.names import seek

EXPECTED = "a COCO JSON such as annotations/instances_<split>.json, annotations.json or _annotations.coco.json"


def read_json(path: Path, required: Collection[str]) -> dict[str, Any]:
    """Read a JSON object that has all the `required` keys; raises InputError that says what it is instead."""
    try:
        with path.open("rb") as file:
            data = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    members = {key: isinstance(value, list) for key, value in data.items()} if isinstance(data, dict) else {}
    check_members(path, type(data).__name__, members, required)
    return data


def check_members(path: Path, kind: str, members: Mapping[str, bool], required: Collection[str]) -> None:
    """Check the top of a JSON file; raises InputError.

    `kind` is its Python type ("dict" is right), and `members` says by key which members are lists.
    """
    wanted = " and ".join(repr(key) for key in required)
    if kind != "dict":
        raise InputError(f"{path} is not a COCO file: expected an object with {wanted}; it is a {kind}")
    if not all(members.get(key) for key in required):
        keys = ", ".join(sorted(members)[:12]) or "none"
        raise InputError(f"{path} is not a COCO file: expected an object with {wanted} (lists); it has keys {keys}")


def find_annotations(root: Path, split: str, given: str) -> Path:
    """Find the JSON: the one `given`, else the first in a known layout; raises InputError that says what was tried."""
    if given:
        path = root / Path(given).expanduser()
        if not path.is_file():
            raise InputError(f"annotations {given!r} is not a file (looked for {path})")
        return path
    if split:
        tried = [root / "annotations" / f"instances_{split}.json", root / split / "_annotations.coco.json"]
        tried += [root / f"instances_{split}.json", root / "annotations" / f"{split}.json"]
        found = next((path for path in tried if path.is_file()), None)
        if found is None:
            raise missing_split("coco", split, _splits(root), f"one of {', '.join(str(path) for path in tried)}")
        return found
    for path in (root / "annotations.json", root / "_annotations.coco.json"):
        if path.is_file():
            return path
    for pattern in ("instances*.json", "*.json", "annotations/instances*.json", "annotations/*.json"):
        found = sorted(root.glob(pattern))
        if len(found) > 1:
            names = ", ".join(str(path.relative_to(root)) for path in found[:8])
            raise InputError(f"{str(root)!r} has several annotation files ({names}): name a split or annotations=FILE")
        if found:
            return found[0]
    splits = _splits(root)
    if splits:
        raise InputError(f"{str(root)!r} is divided into splits: name one of {', '.join(splits)}")
    raise InputError(f"{str(root)!r} holds {list_names(root)}; reader 'coco' expects {EXPECTED}")


def _splits(root: Path) -> list[str]:
    named = {path.stem.removeprefix("instances_") for path in root.glob("annotations/instances_*.json")}
    return sorted(named | {path.parent.name for path in root.glob("*/_annotations.coco.json")})


def file_names(image: dict[str, Any]) -> list[str]:
    """List the names under which an image record's file may be found, best first; LVIS has only a coco_url."""
    name = image.get("file_name")
    if isinstance(name, str) and name:
        return [name]
    url = image.get("coco_url")
    parts = url.split("/") if isinstance(url, str) else []
    return ["/".join(parts[-2:]), parts[-1]] if len(parts) > 1 else []


def find_images(
    root: Path, split: str, given: str, images: Sequence[dict[str, Any]], annotations: Path | None = None
) -> Path:
    """Find the images folder: the one `given`, else the first known folder that holds one of the first images.

    CVAT names the folder after the file `annotations` (instances_default.json: images/default), Roboflow puts both into
    one folder.
    """
    if given:
        path = root / Path(given).expanduser()
        if not path.is_dir():
            raise InputError(f"images {given!r} is not a folder (looked for {path})")
        return path
    folders = [root / "images" / split, root / split, root / "images", root]
    if annotations is not None:
        folders += [root / "images" / annotations.stem.removeprefix("instances_"), annotations.parent]
    there = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
    for find in (_as_written, locate):  # an exact name is better evidence than one that differs in form
        for folder in there:
            for image in images[:5]:
                with contextlib.suppress(ValueError):  # several files fit, which is reported with the image
                    if find(folder, file_names(image)):
                        return folder
    return there[0]


def id_text(value: Any) -> str:
    """Return an id as text: 7, 7.0 and "7" are the same; "" for anything that is not an id."""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    return str(value) if isinstance(value, int | str) else ""


def licence_names(licences: Any) -> dict[str, str]:
    """Map the licence ids of a COCO file's `licenses`, as text, to their address or, without one, to their name."""
    return {
        id_text(licence.get("id")): str(licence.get("url") or licence.get("name") or "")
        for licence in (licences if isinstance(licences, list) else [])
        if isinstance(licence, dict)
    }


def drawn_in_percent(info: Mapping[str, Any]) -> bool:
    """Whether Label Studio wrote a file.

    Its polygons are percent of the upright photo times the declared size, which is the size of the stored pixels, or of
    the upright photo if Label Studio could not open the file.
    """
    return str(info.get("contributor") or "").lower().startswith("label studio")


def is_published(info: Mapping[str, Any]) -> bool:
    """Whether a file says that it is one of COCO's own, whose masks fit the photos as they are stored."""
    about = " ".join(str(info.get(key)) for key in ("contributor", "url", "description"))
    return re.search(r"(coco|lvis)dataset\.org|mscoco\.org|\bCOCO (Consortium|group|20(14|15|17))\b", about) is not None


def lists_coco_photos(images: Sequence[Mapping[str, Any]]) -> bool:
    """Whether images are COCO's photos, judged by the addresses in COCO's files."""
    return any(re.search(r"cocodataset\.org|mscoco\.org", str(image.get("coco_url"))) for image in images)


def locate(folder: Path, names: Sequence[str]) -> tuple[Path, str] | None:
    """Return the file that one of `names` refers to inside a folder, and the way that led to it; None if there is none.

    Raises ValueError if several files fit and none has exactly the name (readers/names.py).
    """
    if found := _as_written(folder, names):
        return found
    return next((found for name in names for place in _places(folder, name) if (found := seek(folder, place))), None)


def literal_files(folder: Path, names: Sequence[str]) -> list[Path]:
    """Return the paths with exactly these names, whether the files exist or not."""
    return [file_inside(folder, name) for name in names if _is_inside(name)]


def why_missing(folder: Path, name: str) -> str:
    """Explain why `locate` found no file of a name."""
    why = ""
    try:
        file_inside(folder, name)
    except ValueError as error:
        why = f" ({error})"
    return f"the file does not exist in {str(folder)!r}{why}; set the option images to use another folder"


def _as_written(folder: Path, names: Sequence[str]) -> tuple[Path, str] | None:
    places = (file_inside(folder, place) for name in names for place in _places(folder, name))
    # It returns False for a name that is too long, where Path.is_file raises.
    return next(((path, "") for path in places if os.path.isfile(path)), None)  # noqa: PTH113


def _places(folder: Path, name: str) -> Iterator[str]:
    """Yield the paths inside the folder that a file name may refer to.

    The first is the name itself, the next has Windows' slashes replaced. Names that Label Studio writes follow:
    images/x.jpg for a file in the folder itself and, if it did not copy the image, ../images/x.jpg, an absolute path or
    an address (?d=... for local files), of which all endings are tried, the longest first.
    """
    plain = name.replace("\\", "/")
    yield from filter(_is_inside, dict.fromkeys((name, plain)))
    leads_out = plain.startswith(("/", "../")) or re.match(r"[A-Za-z][\w+.-]*:", plain) is not None
    if "?d=" in plain:
        plain = unquote(plain.split("?d=", 1)[1]).replace("\\", "/")
    parts = [part for part in plain.split("/") if part not in ("", ".", "..")]
    beside = len(parts) > 1 and parts[0] in ("images", folder.name)
    for start in range(len(parts)) if leads_out else [1] if beside else []:
        yield from filter(_is_inside, ["/".join(parts[start:])])


def _is_inside(name: str) -> bool:
    try:
        return bool(file_inside(Path(), name).parts)
    except ValueError:
        return False
