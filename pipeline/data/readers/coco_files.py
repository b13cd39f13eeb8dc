"""Where a COCO data set keeps its JSON and its images: the layouts of COCO itself, CVAT, Label Studio and Roboflow."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from models.errors import InputError
from pipeline.data.readers.folders import file_inside, list_names, missing_split

EXPECTED = "a COCO JSON such as annotations/instances_<split>.json, annotations.json or _annotations.coco.json"


def read_json(path: Path, required: Collection[str]) -> dict[str, Any]:
    """Read a JSON object that has all the `required` keys; InputError saying what it is instead."""
    try:
        with path.open("rb") as file:
            data = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as JSON: {error}") from error
    wanted = " and ".join(repr(key) for key in required)
    if not isinstance(data, dict):
        raise InputError(f"{path} is no COCO file: expected an object with {wanted}; it is a {type(data).__name__}")
    if not all(isinstance(data.get(key), list) for key in required):
        keys = ", ".join(sorted(data)[:12]) or "none"
        raise InputError(f"{path} is no COCO file: expected an object with {wanted} (lists); it has keys {keys}")
    return data


def find_annotations(root: Path, split: str, given: str) -> Path:
    """Find the JSON: the one `given`, else the first that the known layouts allow; InputError naming what was tried."""
    if given:
        path = root / Path(given).expanduser()
        if not path.is_file():
            raise InputError(f"annotations {given!r} is no file (looked for {path})")
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
    """List the names under which an image record's file may be found, best first; LVIS gives only a coco_url."""
    name = image.get("file_name")
    if isinstance(name, str) and name:
        return [name]
    url = image.get("coco_url")
    parts = url.split("/") if isinstance(url, str) else []
    return ["/".join(parts[-2:]), parts[-1]] if len(parts) > 1 else []


def find_images(root: Path, split: str, given: str, images: list[dict[str, Any]]) -> Path:
    """Find the images folder: the one `given`, else the first known one in which one of the first images lies."""
    if given:
        path = root / Path(given).expanduser()
        if not path.is_dir():
            raise InputError(f"images {given!r} is no folder (looked for {path})")
        return path
    folders = [root / "images" / split, root / split, root / "images", root]
    there = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]
    return next((folder for folder in there if any(locate(folder, image) for image in images[:5])), there[0])


def licence_names(licences: Any) -> dict[Any, str]:
    """Map licence ids of a COCO file's `licenses` to their address, or to their name if they have none."""
    return {
        licence["id"]: str(licence.get("url") or licence.get("name") or "")
        for licence in (licences if isinstance(licences, list) else [])
        if isinstance(licence, dict) and isinstance(licence.get("id"), int | str)
    }


def locate(folder: Path, image: dict[str, Any]) -> Path | None:
    """Find the file of an image record; None if it is absent or its name leads out of the folder."""
    for name in file_names(image):
        try:
            path = file_inside(folder, name)
        except ValueError:
            continue
        if path.is_file():
            return path
    return None
